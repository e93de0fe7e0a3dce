"""The process that builds one report: facts come by standard input, the report leaves by standard output."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import NoReturn

from shunter.storage.errors import Corrupt, NotFound, Unavailable
from shunter.storage.scoring.sketches import Sketches, decode_sketches, encode_sketches, merge_into
from shunter.storage.scoring.sources import store_at
from shunter.workers.lifeline import bind_to_parent, leave
from shunter.workers.report.document import report_document
from shunter.workers.report.facts import EXIT_UNAVAILABLE, BuiltReport, ReportFacts
from shunter.workers.report.page import render

log = logging.getLogger(__name__)

NICENESS = 10


def build(facts: ReportFacts) -> BuiltReport:
    """The report of a scoring; raises Unavailable when the sketches of its chunks cannot be read now."""
    columns = _merged(facts.parts, (chunk.columns_key for chunk in facts.chunks))
    references = {reference.name: decode_sketches(reference.columns) for reference in facts.references}
    document = report_document(facts, columns, references)
    return BuiltReport(document=document, page=render(document), columns=encode_sketches(**columns))


def _merged(parts: str, keys: Iterable[str | None]) -> dict[str, Sketches]:
    store = store_at(parts)
    merged: dict[str, Sketches] = {"inputs": {}, "outputs": {}}
    for key in keys:
        if key is None:
            continue
        try:
            found = decode_sketches(store.get(key))
        except (NotFound, Corrupt) as error:
            # A report without one chunk's columns is better than none.
            log.warning("%s is left out: %s", key, error)
            continue
        for group, whole in merged.items():
            merge_into(whole, found.get(group, {}))
    return merged


def main() -> NoReturn:
    """Build one report, in no hurry; ends with its hub, which then leaves the work to another."""
    bind_to_parent()
    os.nice(NICENESS)
    try:
        built = build(ReportFacts.decode(sys.stdin.buffer.read()))
    except Unavailable as error:
        sys.stderr.write(error.message)
        leave(EXIT_UNAVAILABLE)
    sys.stdout.buffer.write(built.encode())
    leave(0)


if __name__ == "__main__":
    main()
