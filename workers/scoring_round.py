"""One round over all scorings under way: what one of them meets does not hold up the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from shunter.storage.errors import ObjectStoreUnavailable, Unavailable


def each_scoring(ids: Iterable[UUID], step: Callable[[UUID], int]) -> int:
    """Take a step with each; returns the sum of what the steps do.

    Raises, once each has had its turn, the first thing that no step should raise, else the first Unavailable.
    """
    done = 0
    outages: list[Unavailable] = []
    bugs: list[Exception] = []
    for id in ids:
        try:
            done += step(id)
        except Unavailable as error:
            outages.append(error)
        except OSError as error:
            outages.append(ObjectStoreUnavailable(f"a file of the scoring {id}: {error}"))
        except Exception as error:  # noqa: BLE001 - raised again, once the others have had their turn
            error.add_note(f"This was met by the scoring {id}.")
            bugs.append(error)
    if bugs or outages:
        raise (*bugs, *outages)[0]
    return done
