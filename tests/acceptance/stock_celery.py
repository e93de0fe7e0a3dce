"""Programs that know nothing of Shunter: a stock Celery producer, worker and command line, as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PRODUCER = """
import json, sys
from celery import Celery

app = Celery(broker=sys.argv[1])
for line in sys.stdin:
    print(app.send_task("shunter.submit", **json.loads(line)).id)
"""

WORKER = """
import time
from pathlib import Path
from celery import Celery

app = Celery("stock", broker={url!r})
FOLDER = Path({folder!r})

@app.task(name="stock.note", acks_late=True)
def note(text):
    (FOLDER / f"begun-{{text}}").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    (FOLDER / f"done-{{text}}").touch()
"""

SEND_NOTE = "import sys; from stock_app import note; note.apply_async((sys.argv[1],), queue='stock')"


def python(*arguments: str, stdin: str = "", directory: Path | None = None) -> str:
    """What a Python program printed."""
    command = [sys.executable, *(["-P"] if directory is None else []), *arguments]
    return subprocess.run(
        command, input=stdin, cwd=directory, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def send_tasks(redis_url: str, tasks: Sequence[dict[str, Any]]) -> list[str]:
    """Send tasks from a process of their own, as send_task's arguments; returns their ids."""
    lines = "\n".join(json.dumps(task) for task in tasks)
    return python("-c", PRODUCER, redis_url, stdin=lines).split()


def submit_task(model: str, rows: Sequence[Any], **options: Any) -> dict[str, Any]:
    """The arguments of send_task for one submission."""
    return {"kwargs": {"model": model, "rows": rows}, "queue": f"infer.{model}", **options}


def celery(redis_url: str, worker: str, *arguments: str) -> Any:
    """What `celery inspect` or `celery control` hears from one worker."""
    common = ["--json", "--timeout", "10", "--destination", worker]
    answers = json.loads(python("-m", "celery", "-b", redis_url, *arguments, *common))
    (answer,) = answers if isinstance(answers, list) else [answers]
    return answer[worker]


@contextmanager
def stock_worker(redis_url: str, directory: Path) -> Iterator[None]:
    """A stock Celery worker of the queue `stock`, whose tasks wait for the file `go`."""
    (directory / "stock_app.py").write_text(WORKER.format(url=redis_url, folder=str(directory)))
    command = [sys.executable, "-m", "celery", "-A", "stock_app", "worker", "-Q", "stock", "-P", "solo"]
    with (directory / "worker.log").open("wb") as log:
        process = subprocess.Popen([*command, "-n", "stock@here"], cwd=directory, stdout=log, stderr=log)
    try:
        yield
    finally:
        (directory / "go").touch()
        process.terminate()
        process.wait(30)
