"""The legal moves, and the drawing of them in the docs."""

from __future__ import annotations

import re
from pathlib import Path

from shunter.storage.job import MOVES, TERMINAL_STATES, JobState, LegalMove, Move, Priority

DRAWING = Path(__file__).parents[2] / "docs" / "state-machine.md"
ARROW = re.compile(r"^\s+(\w+) --> (\w+): (\w+)$", re.MULTILINE)


def test_the_docs_draw_exactly_the_legal_moves() -> None:
    drawn = {
        LegalMove(JobState(source), Move(move), JobState(target))
        for source, target, move in ARROW.findall(DRAWING.read_text())
    }
    assert drawn == MOVES


def test_the_docs_explain_every_move() -> None:
    text = DRAWING.read_text()
    assert all(f"| {move} |" in text for move in Move)


def test_no_move_leaves_a_terminal_state() -> None:
    assert {"succeeded", "failed", "cancelled", "expired"} == TERMINAL_STATES
    assert not {move.source for move in MOVES} & TERMINAL_STATES


def test_every_state_can_be_reached_from_queued() -> None:
    reached = {JobState.QUEUED}
    while new := {move.target for move in MOVES if move.source in reached} - reached:
        reached |= new
    assert reached == set(JobState)


def test_priorities_have_the_names_that_users_write() -> None:
    assert [priority.label for priority in Priority] == ["interactive", "standard", "bulk"]
    assert Priority.from_label("bulk") is Priority.BULK
