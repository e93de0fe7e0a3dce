"""What `shunter doctor` says of one thing: how bad it is, what it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    """Jobs are served, and something should be looked after."""
    FAIL = "FAIL"
    """Some or all jobs are not served."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    check: str
    message: str
    remedy: str = ""

    def line(self) -> str:
        """For people: one line, also of a message that has several, such as a traceback."""
        remedy = f" \u2013 {self.remedy}" if self.remedy else ""
        return f"{self.level:<4}  {self.check}: {' '.join(self.message.split())}{remedy}"


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, check, message)


def warn(check: str, message: str, remedy: str) -> Finding:
    """Something should be looked after."""
    return Finding(Level.WARN, check, message, remedy)


def fail(check: str, message: str, remedy: str) -> Finding:
    """Jobs are not served."""
    return Finding(Level.FAIL, check, message, remedy)
