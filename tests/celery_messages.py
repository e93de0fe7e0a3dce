"""Messages as a plain Celery producer puts them onto a list."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4


def submission_message(
    model: str,
    rows: Any,
    *,
    task_id: str | None = None,
    embed: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    content_type: str = "application/json",
    **kwargs: Any,
) -> bytes:
    """What `send_task("shunter.submit", kwargs={"model": model, "rows": rows}, queue=...)` sends."""
    task_id = task_id or str(uuid4())
    embed = embed or {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[], {"model": model, "rows": rows, **kwargs}, embed])
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": "shunter.submit", "id": task_id, **(headers or {})},
        "properties": {"correlation_id": task_id, "delivery_tag": str(uuid4()), "body_encoding": "base64"},
    }
    return json.dumps(message).encode()
