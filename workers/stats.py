"""Counters of what a model version's batches on one worker were like, told with its heartbeat; pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shunter.storage.batch_report import RECENT
from shunter.workers.messages import BatchDone

SMOOTHING = 0.2
"""Weight of the latest batch in the measured rate."""

BUSY_WINDOW_S = 60.0
"""How far back the share of busy time looks."""

LOOK_INTERVAL_S = 1.0
STAGES = ("wait", "preprocess", "forward", "postprocess")


@dataclass(slots=True)
class BatchStats:
    """All batches of one model version on one worker; `now` is seconds of one monotonic clock."""

    began_at: float
    batches: int = 0
    rows: int = 0
    forwards: int = 0
    full_rows: int = 0
    ooms: int = 0
    trials: int = 0
    trials_failed: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    rows_per_s: float = 0.0
    seconds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    sizing: Mapping[str, Any] = field(default_factory=dict)
    _recent: deque[tuple[float, BatchDone]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _looks: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, batch: BatchDone, now: float) -> None:
        """Count one batch, which has just been done."""
        self.batches += 1
        self.rows += batch.rows
        self.forwards += batch.forwards
        self.full_rows += max(batch.full_rows, batch.rows)
        self.tokens += batch.tokens
        self.padded_tokens += batch.padded_tokens
        self.ooms += batch.ooms
        self.trials += batch.trial
        self.trials_failed += batch.trial_failed
        self.sizes[batch.rows] += 1
        self.reasons[batch.reason] += 1
        for stage in STAGES:
            self.seconds[stage] += getattr(batch, f"{stage}_s")
        if batch.forward_s > 0:
            rate = batch.rows / batch.forward_s
            self.rows_per_s += (rate - self.rows_per_s) * (SMOOTHING if self.rows_per_s else 1.0)
        self._recent.appendleft((now, batch))

    def document(self, now: float) -> dict[str, Any]:
        """The JSON form, as `storage.batch_report` describes it."""
        return {
            "batches": self.batches,
            "rows": self.rows,
            "forwards": self.forwards,
            "full_rows": self.full_rows,
            "tokens": self.tokens,
            "padded_tokens": self.padded_tokens,
            "out_of_memory": self.ooms,
            "ceiling_trials": self.trials,
            "ceiling_trials_failed": self.trials_failed,
            "rows_per_s": round(self.rows_per_s, 1),
            "busy": round(self._busy(now), 4),
            "seconds": {stage: round(seconds, 6) for stage, seconds in self.seconds.items()},
            "sizes": {str(size): count for size, count in sorted(self.sizes.items())},
            "reasons": dict(self.reasons),
            "sizing": self.sizing,
            "recent": [_told(batch, now - at) for at, batch in self._recent],
        }

    def _busy(self, now: float) -> float:
        """The share of the last minute that the model ran; what runs now counts when it is done."""
        ran_s = self.seconds["forward"]
        if not self._looks or now - self._looks[-1][0] >= LOOK_INTERVAL_S:
            self._looks.append((now, ran_s))
        while len(self._looks) > 1 and self._looks[1][0] <= now - BUSY_WINDOW_S:
            self._looks.popleft()
        since, ran_before_s = self._looks[0]
        if since > now - BUSY_WINDOW_S:
            since, ran_before_s = max(self.began_at, now - BUSY_WINDOW_S), 0.0
        return min(1.0, (ran_s - ran_before_s) / (now - since)) if now > since else 0.0


def _told(batch: BatchDone, age_s: float) -> dict[str, Any]:
    facts = {name: round(v, 6) if isinstance(v, float) else v for name, v in asdict(batch).items()}
    return {"age_s": round(age_s, 3), **facts}
