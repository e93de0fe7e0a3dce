"""One examination of a fleet: every check, in the order in which one thing rests on another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shunter.doctor.facts import Facts
from shunter.doctor.findings import Finding, Level
from shunter.doctor.fleet_checks import check_jobs, check_models, check_quarantine, check_workers
from shunter.doctor.services_checks import check_clocks, check_object_store, check_postgres, check_redis

CHECKS: Sequence[Callable[[Facts], Iterable[Finding]]] = (
    check_postgres,
    check_redis,
    check_object_store,
    check_clocks,
    check_workers,
    check_models,
    check_jobs,
    check_quarantine,
)


def examine(facts: Facts) -> list[Finding]:
    """Everything that is to be said of a fleet."""
    return [finding for check in CHECKS for finding in check(facts)]


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether jobs are served."""
    return all(finding.level is not Level.FAIL for finding in findings)
