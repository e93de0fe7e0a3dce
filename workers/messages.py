"""What a hub and its engines say to each other over their pipe, as frozen messages.

    hub -> engine                      engine -> hub
    Run     run this job               Loaded     the model is ready
    Probe   run suspect rows apart     LoadFailed the model cannot be loaded; the engine exits
    Drop    forget this claim          Begun      what a stage is about to touch
    Stop    finish what is in hand     Probed     a probe has passed
                                       BatchDone  a batch left the model, with its timings
                                       Costs      what was learnt about batch sizes, now and then
                                       MemoryFull how many rows fit
                                       MemoryFits that more do than was known
                                       Finished   jobs whose rows are all done

They travel pickled, since the pipe is private to a process and its own child. What a hub has to say is
gathered and said together; what an engine says leaves it at once, and what it says at one moment together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.job import Claim, ClaimedJob
from shunter.storage.outcome import Outcome, RowFailure
from shunter.workers.spans import Spans, pack, unpack

PROBE = "probe"
"""What is announced as begun while a probe lasts, whatever its stages announce."""


class Run(NamedTuple):
    """Run this job, but not its `guilty` rows, which are known to kill engines.

    The `withheld` rows, as (start, stop), wait for the probes that name them.
    """

    job: ClaimedJob
    guilty: tuple[RowFailure, ...] = ()
    withheld: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """Take these withheld rows through the model with nothing else in its hands; Probed follows."""

    spans: Spans


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget this claim: the job was cancelled, or belongs to another worker now."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish the batches in hand, leave what has not begun, then exit."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is loaded and takes jobs; `load_s` seconds were spent."""

    load_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be loaded; `message` is for its author."""

    message: str


@dataclass(frozen=True, slots=True)
class Begun:
    """What a stage has in its hands from now on, in place of what it had; none when it has finished.

    Whatever any stage has in its hands is suspect if the engine dies. Written before model code
    runs, in the engine's own thread, so that it has left the process when a crash follows. `stage` is
    decode, preprocess, gather, forward or postprocess; stages overlap, each is announced by itself. A
    probe is announced as a whole besides.
    """

    stage: str
    spans: Spans

    def __reduce__(self) -> tuple[Callable[[str, bytes], Begun], tuple[str, bytes]]:
        return _unpack_begun, (self.stage, pack(self.spans))


def _unpack_begun(stage: str, packed: bytes) -> Begun:
    return Begun(stage, unpack(packed))


@dataclass(frozen=True, slots=True)
class Probed:
    """The rows of the oldest probe have been through the model, and the engine is still there."""


@dataclass(frozen=True, slots=True)
class BatchDone:
    """One batch went through the model, with its timings in seconds and the reason it was closed.

    `forwards` is 1 unless some of its rows failed or did not fit; `ooms` of them ran out of memory.
    `full_rows` are the rows that would have filled it. Of a model with lengths `tokens` are the real ones,
    `padded_tokens` those that the model computed. A `trial` was larger than what was known to fit in memory;
    if it did not fit, that is no one of `ooms`.
    """

    rows: int
    jobs: int
    reason: str
    full_rows: int
    tokens: int
    padded_tokens: int
    wait_s: float
    preprocess_s: float
    forward_s: float
    postprocess_s: float
    forwards: int
    ooms: int = 0
    trial: bool = False
    trial_failed: bool = False


@dataclass(frozen=True, slots=True)
class MemoryFull:
    """More rows than this did not fit in the device's memory: the engine keeps below it from now on."""

    ceiling: Ceiling


@dataclass(frozen=True, slots=True)
class MemoryFits:
    """A batch larger than a ceiling fitted: the engine goes up to that from now on."""

    raised: RaisedCeiling


@dataclass(frozen=True, slots=True)
class Costs:
    """What was learnt about the cost of each batch size, as a JSON document."""

    sizing: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """The runs of some jobs ended; their outcomes are ready to be settled."""

    outcomes: tuple[Outcome, ...]


ToEngine = Run | Probe | Drop | Stop
ToHub = Loaded | LoadFailed | Begun | Probed | MemoryFull | MemoryFits | BatchDone | Costs | Finished
