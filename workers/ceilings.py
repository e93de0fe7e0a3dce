"""What is known of how many rows fit in memory, on one device, for one model version; pure."""

from __future__ import annotations

from collections.abc import Iterable

from shunter.storage.ceiling import Ceiling


class Ceilings:
    """Ceilings by bucket. Where rows count tokens, memory goes with tokens: one number serves all buckets.

    That is exact for a model whose memory grows in proportion to its padded tokens. Where attention
    makes it grow faster, short rows get somewhat smaller batches than would fit.
    """

    def __init__(self) -> None:
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
