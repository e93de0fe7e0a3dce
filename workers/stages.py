"""The stages that a row passes in an engine, each in a thread of its own, overlapping.

    preparation -> (line) -> forwarding: gather, run -> finishing (-> writing, of chunks)

Every stage announces the rows it is about to touch, so that a crash has a name. Rows that are suspect
already pass the same stages in a probe, with nothing beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shunter.storage.object_store import ObjectStore
from shunter.storage.signature import Signature
from shunter.workers.announcements import Announcements
from shunter.workers.chunks import Chunks
from shunter.workers.finishing import Finishing
from shunter.workers.forwarding import Forwarding
from shunter.workers.inputs_ahead import InputsAhead
from shunter.workers.line import Line
from shunter.workers.messages import ToHub
from shunter.workers.preparation import Preparation
from shunter.workers.references import References
from shunter.workers.runner import Runner

UNDECLARED = Signature()


class Stages:
    """One model's stages; `send` writes messages to the hub together and at once, from any thread.

    `preprocess` stands in for the runner's own, in processes beside this one.
    """

    def __init__(
        self,
        line: Line,
        runner: Runner,
        store: ObjectStore,
        *,
        inputs: InputsAhead,
        references: References,
        send: Callable[[Sequence[ToHub]], None],
        bunch_rows: int,
        measures_bytes: bool = False,
        preprocess: Callable[[list[Any]], list[Any]] | None = None,
        finite: bool = False,
        signature: Signature = UNDECLARED,
    ) -> None:
        announcements, chunks = Announcements(line, send), Chunks(signature)
        finishing = Finishing(line, runner, store, announcements, chunks=chunks, finite=finite)
        forwarding = Forwarding(line, runner, announcements, inputs=inputs, finish=finishing.take)
        preparation = Preparation(
            line,
            runner,
            announcements,
            inputs=inputs,
            references=references,
            chunks=chunks,
            settle=finishing.put,
            forward_if_idle=forwarding.forward_if_idle,
            bunch_rows=bunch_rows,
            measures_bytes=measures_bytes,
            preprocess=preprocess,
        )
        self.accept = preparation.accept
        self.preprocess_jobs = preparation.run
        self.gather_batches = forwarding.gather
        self.run_batches = forwarding.run
        self.finish_batches = finishing.run
        self.write_chunks = finishing.write
