"""What a check can find wrong with a model, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shunter.workers.batch import Timing


class Fault(StrEnum):
    """The stable names of what can be wrong."""

    LOAD_FAILS = "load_fails"
    SLOW_TO_LOAD = "slow_to_load"
    ROW_REFUSED = "row_refused"
    RAISES = "raises"
    BAD_HOOK = "bad_hook"
    BAD_OUTPUTS = "bad_outputs"
    DROPS_OUTPUTS = "drops_outputs"
    DUPLICATES_OUTPUTS = "duplicates_outputs"
    PERMUTES_OUTPUTS = "permutes_outputs"
    MUTATES_INPUT = "mutates_input"
    DEPENDS_ON_BATCH = "depends_on_batch"
    DEPENDS_ON_PADDING = "depends_on_padding"
    NOT_DETERMINISTIC = "not_deterministic"
    LEAKS_MEMORY = "leaks_memory"
    NOT_FINITE = "not_finite"
    NOT_STORABLE = "not_storable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: what happened and what to do; `traceback` has the author's own frames only."""

    code: Fault
    message: str
    traceback: str = ""


@dataclass(slots=True)
class Report:
    """What a check saw; `recommended_rows` is None where no size could be timed."""

    directory: str
    device: str
    load_s: float = 0.0
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    timings: Sequence[Timing] = ()
    recommended_rows: int | None = None

    def add(self, *findings: Finding) -> None:
        """Keep findings, the first of each fault: a hundred rows with one cause are one fault."""
        known = {finding.code for finding in self.findings}
        for finding in findings:
            if finding.code not in known:
                known.add(finding.code)
                self.findings.append(finding)
