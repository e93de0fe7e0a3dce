"""A trace of jobs, and what became of it: latencies, sizes and reasons of batches; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from shunter.storage.job import Priority
from shunter.workers.batch import Batch, Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job of a trace: `at_s` ascends; `lengths`, one for each row, are empty for models without."""

    at_s: float
    rows: int
    lengths: Sequence[int] = ()
    priority: Priority = Priority.STANDARD
    deadline_s: float | None = None


@dataclass(eq=False, kw_only=True)
class SimulatedJob(Ticket):
    """A job under way, and how it went; `begun_s` and `finished_s` are moments of the trace."""

    arrival: Arrival
    remaining: int
    taken: bool = False
    begun_s: float | None = None
    finished_s: float | None = None
    expired: bool = False

    @property
    def latency_s(self) -> float:
        """From its arrival until its last row was through; infinite if it expired."""
        return inf if self.finished_s is None else self.finished_s - self.arrival.at_s

    @property
    def queued_s(self) -> float:
        """From its arrival until its first row reached the model; infinite if none did."""
        return inf if self.begun_s is None else self.begun_s - self.arrival.at_s


@dataclass(slots=True)
class Simulation:
    """What became of a trace. Percentiles count the jobs that expired as infinitely late."""

    jobs: list[SimulatedJob] = field(default_factory=list)
    rows: int = 0
    batches: int = 0
    busy_s: float = 0.0
    ended_s: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rows_by_class: Counter[Priority] = field(default_factory=Counter)

    @property
    def rows_per_s(self) -> float:
        """Rows through the model by the time from the first arrival to the last batch."""
        spent = self.ended_s - self.jobs[0].arrival.at_s if self.jobs else 0.0
        return self.rows / spent if spent > 0 else 0.0

    @property
    def utilisation(self) -> float:
        """The part of that time in which the model was busy."""
        return self.busy_s * self.rows_per_s / self.rows if self.rows else 0.0

    @property
    def padding(self) -> float:
        """The part of the tokens paid for that was padding."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    @property
    def expired(self) -> int:
        """Jobs that missed their deadline in line."""
        return sum(job.expired for job in self.jobs)

    def latency_s(self, percent: float, priority: Priority | None = None) -> float:
        """A percentile of the latencies of the jobs, or of one class of them."""
        return percentile([job.latency_s for job in self._of(priority)], percent)

    def queued_s(self, percent: float, priority: Priority | None = None) -> float:
        """A percentile of the times until the first row reached the model."""
        return percentile([job.queued_s for job in self._of(priority)], percent)

    def count(self, batch: Batch[SimulatedJob], seconds: float, now: float) -> None:
        """A batch reaches the model."""
        self.batches += 1
        self.rows += len(batch.rows)
        self.busy_s += seconds
        self.tokens += batch.tokens
        self.padded_tokens += batch.padded_tokens
        self.sizes[len(batch.rows)] += 1
        self.reasons[batch.reason.value] += 1
        for row in batch.rows:
            self.rows_by_class[row.ticket.priority] += 1
            if row.ticket.begun_s is None:
                row.ticket.begun_s = now

    def _of(self, priority: Priority | None) -> list[SimulatedJob]:
        return [job for job in self.jobs if priority is None or job.priority is priority]


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many per cent of the values do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0
