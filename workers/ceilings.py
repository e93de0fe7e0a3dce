"""What is known of how many rows fit in memory, on one device, for one model version; pure."""

from __future__ import annotations

from collections.abc import Iterable

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.workers.ceiling_trials import CeilingTrials

ALL_TOKENS = "tokens"
"""Where rows count tokens, all buckets have one ceiling, and are tried together."""


class Ceilings:
    """Ceilings by bucket. Where rows count tokens, memory goes with tokens: one number serves all buckets.

    That is exact for a model whose memory grows in proportion to its padded tokens. Where attention
    makes it grow faster, short rows get somewhat smaller batches than would fit.
    With `trials`, larger batches than the ceilings are tried now and then.
    """

    def __init__(self, *, trials: bool = False) -> None:
        self._trials = CeilingTrials() if trials else None
        self._device = ""
        self._rows: dict[str, int] = {}
        self._tokens: int | None = None

    def learn(self, device: str, known: Iterable[Ceiling]) -> None:
        """The model is on this kind of device, for which some of the `known` ceilings hold."""
        self._device = device
        for ceiling in known:
            if ceiling.device == device:
                self._lower(ceiling)

    def limit(self, bucket: str, tokens: int) -> int | None:
        """How many rows of `tokens` tokens each may share a batch, at least 1; None if nobody knows."""
        if tokens:
            return None if self._tokens is None else max(1, self._tokens // tokens)
        return self._rows.get(bucket)

    def rows(self, bucket: str, tokens: int) -> int | None:
        """How many rows the next batch may have: as many as the limit, or more if it is to be a trial."""
        limit = self.limit(bucket, tokens)
        if limit is None or self._trials is None:
            return limit
        return self._trials.rows(_kind(bucket, tokens), limit)

    def closed(self, bucket: str, rows: int, tokens: int) -> bool:
        """A batch was closed: whether it is a trial."""
        limit = self.limit(bucket, tokens)
        if self._trials is None or limit is None or rows <= limit:
            return False
        self._trials.began(_kind(bucket, tokens))
        return True

    def fitted(self, bucket: str, rows: int, tokens: int) -> RaisedCeiling | None:
        """A batch went through whole: the ceiling that it raised, if it did."""
        limit = self.limit(bucket, tokens)
        if self._trials is None or limit is None or rows < limit:
            return None
        if rows == limit:
            self._trials.fitted(_kind(bucket, tokens))
            return None
        was = Ceiling(self._device, bucket, limit, self._tokens or 0 if tokens else 0)
        raised = RaisedCeiling(was, Ceiling(self._device, bucket, rows, rows * tokens))
        if tokens:
            self._tokens = rows * tokens
        else:
            self._rows[bucket] = rows
        return raised

    def trial_failed(self, bucket: str, tokens: int) -> None:
        """A batch larger than the limit did not fit."""
        if self._trials is not None:
            self._trials.failed(_kind(bucket, tokens))

    def lower(self, bucket: str, rows: int, tokens: int) -> Ceiling | None:
        """More than `rows` rows did not fit: the new ceiling, None if it is no lower than the known one."""
        known = self.limit(bucket, tokens)
        if known is not None and known <= rows:
            return None
        ceiling = Ceiling(self._device, bucket, rows, rows * tokens)
        self._lower(ceiling)
        return ceiling

    def _lower(self, ceiling: Ceiling) -> None:
        if ceiling.tokens:
            self._tokens = min(ceiling.tokens, self._tokens or ceiling.tokens)
        else:
            self._rows[ceiling.bucket] = min(ceiling.rows, self._rows.get(ceiling.bucket, ceiling.rows))


def _kind(bucket: str, tokens: int) -> str:
    return ALL_TOKENS if tokens else bucket
