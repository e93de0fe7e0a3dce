"""What people may write on a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from shunter.storage.errors import InvalidInput, TooLarge

MAX_METADATA_BYTES = 16 * 1024


def check_metadata(metadata: Mapping[str, Any] | None) -> None:
    """Raise InvalidInput or TooLarge unless this can be stored beside a job."""
    if metadata is None:
        return
    try:
        text = orjson.dumps(dict(metadata))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"metadata is not a JSON object: {error}", field="metadata") from error
    if b"\\u0000" in text:
        raise InvalidInput("metadata holds a NUL character, which Postgres cannot store", field="metadata")
    if len(text) > MAX_METADATA_BYTES:
        raise TooLarge(
            f"metadata takes {len(text)} bytes, more than {MAX_METADATA_BYTES}: keep it in your own store",
            field="metadata",
        )
