"""How a hub and its engines pickle what they say: an id of each job is in it, so ids are made small.

Left to themselves, UUIDs are pickled and read by Python code that takes longer than all else of a job.
"""

from __future__ import annotations

import copyreg
import pickle
from io import BytesIO
from typing import Any
from uuid import UUID

from shunter.storage.ids import uuid_of


def dumps(message: object) -> bytes:
    """The bytes of a message; `pickle.loads` reads them."""
    target = BytesIO()
    pickler = pickle.Pickler(target, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _DISPATCH
    pickler.dump(message)
    return target.getvalue()


def _reduce(id: UUID) -> tuple[Any, tuple[int]]:
    return uuid_of, (id.int,)


_DISPATCH = {**copyreg.dispatch_table, UUID: _reduce}
