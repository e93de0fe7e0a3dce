"""What a thread does itself of what it has asked another for."""

from __future__ import annotations

import threading

from shunter.workers.aside import Aside


def test_what_is_kept_is_done_at_the_end_of_the_block() -> None:
    aside, done = Aside[str](), list[str]()
    with aside.kept_for(done.append):
        assert aside.keep("one")
        assert (aside.keeps, done) == (True, [])
    assert (aside.keeps, done) == (False, ["one"])


def test_nothing_is_kept_outside_of_the_block_and_no_more_than_one_within() -> None:
    aside, done = Aside[str](), list[str]()
    assert not aside.keep("early")
    with aside.kept_for(done.append):
        assert [aside.keep("one"), aside.keep("two")] == [True, False]
    assert not aside.keep("late")
    assert done == ["one"]


def test_what_is_asked_for_while_it_is_done_is_for_the_other_thread() -> None:
    aside, kept = Aside[str](), list[bool]()
    with aside.kept_for(lambda _: kept.append(aside.keep("again"))):
        aside.keep("one")
    assert kept == [False]


def test_another_thread_keeps_nothing_meanwhile() -> None:
    aside, kept = Aside[str](), list[bool]()
    with aside.kept_for(lambda _: None):
        other = threading.Thread(target=lambda: kept.append(aside.keep("theirs") or aside.keeps))
        other.start()
        other.join()
    assert kept == [False]
