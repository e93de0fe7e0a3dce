"""How a hub and its engines pickle what they say, of which each job is a part.

Left to themselves, ids are pickled and read by Python code that takes longer than all else of a job.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any
from uuid import UUID

from shunter.storage.ids import uuid_of
from shunter.storage.job import ClaimedJob
from shunter.workers.messages import Run


def dumps(message: object) -> bytes:
    """The bytes of a message; `pickle.loads` reads them."""
    target = BytesIO()
    pickler = pickle.Pickler(target, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _DISPATCH
    pickler.dump(message)
    return target.getvalue()


def _reduce(id: UUID) -> tuple[Any, tuple[int]]:
    return uuid_of, (id.int,)


def _reduce_tuple(named: tuple[Any, ...]) -> tuple[Any, tuple[type, tuple[Any, ...]]]:
    return tuple.__new__, (type(named), tuple(named))


_DISPATCH: dict[type, Callable[[Any], Any]] = {
    **copyreg.dispatch_table,
    UUID: _reduce,
    # Every job crosses as these, and named tuples pickle themselves in Python code, too.
    **dict.fromkeys((Run, ClaimedJob), _reduce_tuple),
}
