"""Tells Celery what becomes of envelopes and their jobs, as they come and go in a hub."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from shunter.storage.outcome import Outcome
from shunter.workers.claimer import Claimed
from shunter.workers.envelope_log import EnvelopeLog, TaskEvent
from shunter.workers.intake import Mail
from shunter.workers.spans import Spans
from shunter.workers.wire import Wire


class Teller:
    """Keeps the log of envelopes, and passes on what it says; only the hub's own thread calls this."""

    def __init__(self, log: EnvelopeLog, wire: Wire) -> None:
        self._log = log
        self._wire = wire

    def received(self, mail: Mail) -> None:
        """Envelopes are about to be claimed."""
        self._tell(self._log.received(mail, time.time()))

    def gone_back(self, mail: Mail) -> None:
        """None of them could be claimed."""
        self._tell(self._log.gone_back(mail, time.time()))

    def claimed(self, mail: Claimed) -> None:
        """What came of the envelopes of one bunch."""
        self._log.arrived(mail.bunch.key)
        ours = {job.id.int for job in mail.jobs}
        now = time.time()
        events: list[TaskEvent] = []
        for refusal in mail.refused:
            events += self._log.refused(refusal.submission.id, refusal.reason, now)
        for envelope in mail.envelopes:
            jobs = {id.int: id for id in envelope.ids if id.int in ours}
            events += self._log.claimed(envelope, jobs.values(), now)
        self._tell(events)

    def begun(self, spans: Spans) -> None:
        """These rows are in the hands of a stage."""
        self._tell(self._log.begun((span.claim.id for span in spans), time.time()))

    def settled(self, outcomes: Iterable[Outcome]) -> None:
        """These jobs are done with."""
        now = time.time()
        events: list[TaskEvent] = []
        for outcome in outcomes:
            events += self._log.settled(outcome, now)
        self._tell(events)

    def _tell(self, events: Sequence[TaskEvent]) -> None:
        if events:
            self._wire.tell(events)
