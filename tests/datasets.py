"""Datasets that scorings have written, as they are compared."""

from __future__ import annotations

from pathlib import Path

import orjson


def dataset_content(place: Path) -> dict[str, bytes]:
    """Every file of a dataset, without the id of the scoring; of its manifest what is no name of its own."""
    manifest = orjson.loads((place / "_shunter.json").read_bytes())
    id = manifest["scoring"].encode()
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "_shunter.json"]
    told = orjson.dumps([manifest[name] for name in ("model", "version", "rows", "files", "errors")])
    content = {str(file.relative_to(place)): file.read_bytes().replace(id, b"") for file in files}
    return {**content, "_shunter.json": told}
