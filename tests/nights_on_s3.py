"""Three nights of digits and of texts on an S3 server, scored by schedules; the last is not like the others.

python -m tests.nights_on_s3 --keep reports

Everything is real: the services, the processes, the S3 server, a trained network and a sentence encoder. The
nights of each schedule are a backfill of three windows, and what it says of their drift is read from its
history. Only the third may have drifted.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shunter import Client, demo_text, demo_texts
from shunter.cli import run
from shunter.demo_model import model as demo_model
from shunter.demo_model import training
from shunter.producers.schedules.request import WindowStatus
from shunter.storage.object_store import ObjectStore, S3Access, S3ObjectStore
from shunter.storage.scoring.request import ScoringRequest
from tests.acceptance.fleet import running_fleet, write_model
from tests.object_store_servers import BUCKET, rclone_server
from tests.waiting import wait_until

Drift = Mapping[str, Any]

NIGHTS = tuple(date(2026, 2, day) for day in (1, 2, 3))
WITHIN_S = 240.0

FLAT_DIGITS = """
from shunter.demo_model import model

class Model(model.Model):
    def collate(self, rows, *, pad_to):
        return super().collate([row.reshape(8, 8) for row in rows], pad_to=pad_to)
"""
FLAT_TOML = """
[batching]
max_rows = 256

[signature.inputs]
pixels = { dtype = "uint8", shape = [64] }
"""


@dataclass(frozen=True, slots=True)
class Nightly:
    """A schedule to be: its model, the column of its rows, and a night's table by rows, seed and oddness."""

    model: str
    column: str
    rows: int
    table: Callable[[int, int, bool], pa.Table]


def digits_of(rows: int, seed: int, odd: bool) -> pa.Table:
    """Handwritten digits, drawn at random; in an odd night the scanner's contrast is too low."""
    images = training.load_digits().images.reshape(-1, 64).astype(np.float32)
    drawn = images[np.random.default_rng(seed).integers(0, len(images), rows)]
    pixels = np.round(drawn * 0.55 + 3 if odd else drawn).astype(np.uint8)
    column = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), 64)
    return pa.table({"id": np.arange(rows), "pixels": column})


def texts_of(rows: int, seed: int, odd: bool) -> pa.Table:
    """Paragraphs, drawn at random; in an odd night somebody cut them off after six words."""
    paragraphs = demo_texts.paragraphs(6000)
    drawn = [paragraphs[n] for n in np.random.default_rng(seed).integers(0, len(paragraphs), rows)]
    texts = [" ".join(text.split()[:6]) for text in drawn] if odd else drawn
    return pa.table({"id": np.arange(rows), "text": texts})


def publish_models(models: Path, *, texts: bool) -> None:
    """A network that has learnt its digits, in flat images, and the demo's sentence encoder."""
    network = training.new_network()
    for _ in training.train(training.load_digits(), network):
        pass
    trained = training.publish(network, models / ".trained", "digits")
    version = write_model(models, "digits", FLAT_DIGITS, toml=FLAT_TOML)
    shutil.copy(trained / demo_model.WEIGHTS, version)
    if texts:
        demo_text.publish(models / "sentences")


def write_nights(bucket: ObjectStore, nightly: Nightly) -> None:
    """Each night's rows and, for a profile, what the model is used to."""
    for seed, night in enumerate(NIGHTS):
        _put(bucket, f"in/{nightly.model}/{night}", nightly.table(nightly.rows, seed, night == NIGHTS[-1]))
    _put(bucket, f"usual/{nightly.model}", nightly.table(nightly.rows, len(NIGHTS), False).drop(["id"]))


def score_nights(client: Client, nightly: Nightly) -> Sequence[WindowStatus]:
    """Add the schedule, score its past, and wait for every report; the oldest window first."""
    place = f"s3://{BUCKET}/{{}}/{nightly.model}/{{{{date}}}}"
    request = ScoringRequest(
        model=nightly.model,
        input=place.format("in") + "/*.parquet",
        output=place.format("out"),
        columns=[nightly.column],
        key="id",
        chunk_rows=max(1, nightly.rows // 12),
    )
    schedule = client.add_schedule(nightly.model, request, cron="0 2 * * *")
    assert schedule.backfill(NIGHTS[0], NIGHTS[-1]) == len(NIGHTS)
    wait_until(lambda: all(window.drift != "-" for window in schedule.history()), WITHIN_S)
    return schedule.history()[::-1]


def wrong_with(nightly: Nightly, windows: Sequence[WindowStatus], drifts: Sequence[Drift]) -> list[str]:
    """What is not so: every row is scored, each night compared with the one before, only the last drifted."""
    wrong = []
    before = None
    for night, window, drift in zip(NIGHTS, windows, drifts, strict=True):
        said = "yes" if night == NIGHTS[-1] else "no"
        if (window.state, window.succeeded, window.drift) != ("complete", nightly.rows, said):
            wrong.append(f"{nightly.model}, {night}: {window}")
        if (drift["against"].get("previous") or {}).get("scoring") != before:
            wrong.append(f"{nightly.model}, {night}: compared with {drift['against']}")
        before = window.scoring
    return wrong


def keep_reports(client: Client, windows: Sequence[WindowStatus], directory: Path) -> None:
    """Each window's page and document, by model and night."""
    directory.mkdir(parents=True, exist_ok=True)
    for window in windows:
        assert window.scoring is not None, f"{window} has no scoring"
        scoring = client.scoring(window.scoring)
        name = f"{scoring.status().model}-{window.window_start:%Y-%m-%d}"
        (directory / f"{name}.html").write_text(scoring.report_page())


def campaign(directory: Path, nights: Sequence[Nightly], keep: Path | None) -> list[str]:
    """Run every schedule on one fleet; what went wrong."""
    models = directory / "models"
    publish_models(models, texts=any(nightly.table is texts_of for nightly in nights))
    (directory / "s3").mkdir()
    wrong = []
    with rclone_server(directory / "s3") as access:
        os.environ.update(_environment(access))
        bucket = S3ObjectStore(BUCKET, access=access)
        with running_fleet(directory, models) as fleet, Client(settings=fleet.settings) as client:
            os.environ.update(fleet.settings.environment())
            for nightly in nights:
                began = time.monotonic()
                write_nights(bucket, nightly)
                command("models", "profile", nightly.model, f"s3://{BUCKET}/usual/{nightly.model}")
                windows = score_nights(client, nightly)
                print(command("schedule", "history", nightly.model))
                drifts = [_drift(client, window) for window in windows]
                for night, drift in zip(NIGHTS, drifts, strict=True):
                    print(f"{night} drifted: {', '.join(drift['columns']) or 'nothing'}")
                print(f"{nightly.model}: three nights in {time.monotonic() - began:.0f} s\n", flush=True)
                wrong += wrong_with(nightly, windows, drifts)
                if keep is not None:
                    keep_reports(client, windows, keep)
    return wrong


def command(*words: str) -> str:
    """What `shunter WORDS` prints."""
    said = io.StringIO()
    with redirect_stdout(said):
        code = run(list(words))
    assert code == 0, f"{words} ended with {code}: {said.getvalue()}"
    return said.getvalue()


def _drift(client: Client, window: WindowStatus) -> Drift:
    assert window.scoring is not None, f"{window} has no scoring"
    drift: Drift = client.scoring(window.scoring).report()["drift"]
    return drift


def _put(bucket: ObjectStore, folder: str, table: pa.Table) -> None:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=2000)
    bucket.put(f"{folder}/rows.parquet", file.getvalue())


def _environment(access: S3Access) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": str(access.endpoint_url),
        "AWS_ACCESS_KEY_ID": str(access.access_key),
        "AWS_SECRET_ACCESS_KEY": str(access.secret_key),
        "AWS_DEFAULT_REGION": "us-east-1",
        "SHUNTER_DEVICE_HOUR_PRICE": "1.20",
    }


def main() -> int:
    """Returns the exit code: 1 if another night than the third has drifted, or a row is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.nights_on_s3", description=__doc__)
    parser.add_argument("--digits", type=int, default=12_000, help="rows of each night")
    parser.add_argument("--texts", type=int, default=1_500, help="rows of each night; 0 leaves texts out")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="put the pages of the reports there")
    asked = parser.parse_args()
    nights = [Nightly("digits", "pixels", asked.digits, digits_of)]
    if asked.texts:
        demo_text.check_extra()
        nights.append(Nightly("sentences", "text", asked.texts, texts_of))
    with tempfile.TemporaryDirectory(prefix="shunter-nights-on-s3-") as directory:
        wrong = campaign(Path(directory), nights, asked.keep)
    for each in wrong:
        print(f"WRONG {each}")
    print(f"{len(wrong)} windows are not as they should be")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
