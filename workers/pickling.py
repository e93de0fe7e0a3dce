"""How what a hub and its engines say crosses their pipe: pickled, and of each job only plain values.

Left to themselves, ids and tuples with names are pickled by Python code, which takes longer than all else
of a job: they are taken apart here, and put together again at the other end.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from shunter.storage.ids import uuid_of
from shunter.storage.job import claimed_job
from shunter.storage.outcome import Outcome
from shunter.storage.results import Blob
from shunter.workers.messages import Finished, Run, ToEngine, ToHub

_outcome: Callable[[tuple[Any, ...]], Outcome] = partial(tuple.__new__, Outcome)


def dumps(messages: Sequence[ToEngine] | Sequence[ToHub]) -> bytes:
    """The bytes of what is said together."""
    return pickle.dumps([_plain(message) for message in messages], pickle.HIGHEST_PROTOCOL)


def loads(said: bytes) -> list[Any]:
    """The messages again."""
    return [_whole(message) for message in pickle.loads(said)]


def _plain(message: ToEngine | ToHub) -> object:
    if type(message) is Run:
        (id, *job), guilty, withheld = message
        return Run, id.int, job, guilty, withheld
    if type(message) is Finished:
        return Finished, list(map(_plain_outcome, message.outcomes))
    return message


def _plain_outcome(outcome: Outcome) -> tuple[Any, ...]:
    id, epoch, move, output, *rest = outcome
    return id.int, epoch, move, output and tuple(output), rest


def _whole(message: Any) -> Any:
    if type(message) is not tuple:
        return message
    if message[0] is Run:
        _, id, job, guilty, withheld = message
        return Run(claimed_job((uuid_of(id), *job)), guilty, withheld)
    return Finished(tuple(map(_whole_outcome, message[1])))


def _whole_outcome(plain: tuple[Any, ...]) -> Outcome:
    id, epoch, move, output, rest = plain
    return _outcome((uuid_of(id), epoch, move, output and Blob(*output), *rest))
