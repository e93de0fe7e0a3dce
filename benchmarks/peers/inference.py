"""What the tasks of all peers do: one row through the model, its result into a row of Postgres."""

from __future__ import annotations

import json
import os
import uuid
from functools import cache
from typing import Any

import psycopg2

from benchmarks.models import load_model, sample_rows

WRITE = "INSERT INTO results (id, result) VALUES (%s::uuid, %s::jsonb)"


@cache
def model() -> Any:
    """The model that Shunter serves too."""
    return load_model("mlp")


@cache
def cursor() -> Any:
    """One connection, autocommit."""
    connection = psycopg2.connect(os.environ["SHUNTER_DATABASE_URL"])
    connection.autocommit = True
    return connection.cursor()


def infer(row: Any) -> None:
    """Run and store one row."""
    cursor().execute(WRITE, (str(uuid.uuid4()), json.dumps(_outputs([row])[0])))


def warm_up() -> None:
    """Load the model and run it once."""
    _outputs(sample_rows("mlp", 1))
    cursor()


def _outputs(rows: list[Any]) -> list[Any]:
    import torch

    with torch.inference_mode():
        outputs: list[Any] = model().forward(model().collate(rows, pad_to=None)).tolist()
    return outputs
