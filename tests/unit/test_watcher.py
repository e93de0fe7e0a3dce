"""One thread asks for everybody, in one question, through outages."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from uuid import UUID

import pytest

from shunter.producers.cache import FinishedCache
from shunter.producers.http_watch import MAX_IDS, HttpWatch
from shunter.producers.watcher import (
    FIRST_INTERVAL_S,
    LONGEST_INTERVAL_S,
    REST_PER_COST,
    Pace,
    Watcher,
    WatcherWatch,
)
from shunter.storage.errors import DatabaseUnavailable, Unavailable, UnknownJob
from shunter.storage.ids import new_id, new_ids
from shunter.storage.job import JobState
from tests.waiting import wait_until


class Jobs:
    """States that a test sets, and the questions that were asked about them."""

    def __init__(self, ids: Collection[UUID], *outages: Exception) -> None:
        self.states = dict.fromkeys(ids, JobState.QUEUED)
        self.questions: list[set[UUID]] = []
        self._outages = list(outages)

    def ask(self, ids: Collection[UUID], wait_s: float = 0.0) -> Mapping[UUID, JobState]:
        self.questions.append(set(ids))
        if self._outages:
            raise self._outages.pop()
        return {id: self.states[id] for id in ids if id in self.states}

    def end(self, *ids: UUID) -> None:
        self.states.update(dict.fromkeys(ids, JobState.SUCCEEDED))


def silence(wanted: Callable[[], bool]) -> Iterator[Collection[UUID]]:
    """Hints that never come."""
    return iter(())


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(new_ids(3))


@pytest.fixture
def watcher(jobs: Jobs) -> Iterator[Watcher]:
    with closing(Watcher(jobs.ask, hints=silence)) as watcher:
        yield watcher


def test_a_finished_job_is_told_once(jobs: Jobs, watcher: Watcher) -> None:
    first, *others = jobs.states
    watch = WatcherWatch(watcher)
    watch.add(jobs.states)
    jobs.end(first)
    assert watch.next(5) == [first]
    assert watch.next(0) == []
    jobs.end(*others)
    told = [*watch.next(5), *watch.next(0.1)]
    assert sorted(told) == sorted(others)


def test_several_waits_share_a_question(jobs: Jobs, watcher: Watcher) -> None:
    watches = [WatcherWatch(watcher) for _ in jobs.states]
    for watch, id in zip(watches, jobs.states, strict=True):
        watch.add([id])
    while set(jobs.states) not in jobs.questions:
        assert not watches[0].next(0.01)
    jobs.end(*jobs.states)
    assert [watch.next(5) for watch in watches] == [[id] for id in jobs.states]


def test_an_unknown_job_is_told_as_such(watcher: Watcher) -> None:
    watch = WatcherWatch(watcher)
    watch.add([new_id()])
    with pytest.raises(UnknownJob):
        watch.next(5)


def test_a_bug_in_the_question_is_told_to_whoever_waits() -> None:
    (id,) = new_ids(1)
    with closing(Watcher(Jobs([id], ZeroDivisionError("a bug")).ask, hints=silence)) as watcher:
        watch = WatcherWatch(watcher)
        watch.add([id])
        with pytest.raises(ZeroDivisionError):
            watch.next(5)


def test_waiting_goes_on_through_an_outage() -> None:
    (id,) = new_ids(1)
    jobs = Jobs([id], DatabaseUnavailable("away"), DatabaseUnavailable("away"))
    jobs.end(id)
    with closing(Watcher(jobs.ask, hints=silence)) as watcher:
        watch = WatcherWatch(watcher)
        watch.add([id])
        assert watch.next(5) == [id]
    assert len(jobs.questions) == 3


def test_whoever_waits_when_the_watcher_closes_is_told(jobs: Jobs, watcher: Watcher) -> None:
    watch = WatcherWatch(watcher)
    watch.add(jobs.states)
    watcher.close()
    with pytest.raises(Unavailable, match="closed"):
        watch.next(5)


def test_nobody_is_asked_about_after_the_wait_is_given_up(jobs: Jobs, watcher: Watcher) -> None:
    given_up, kept = WatcherWatch(watcher), WatcherWatch(watcher)
    first, second, _ = jobs.states
    given_up.add([first])
    given_up.close()
    kept.add([second])
    jobs.end(first, second)
    assert kept.next(5) == [second]
    assert jobs.questions[-1] == {second}
    assert given_up.next(0) == []


def test_the_pace_slows_while_nothing_happens_and_begins_anew_with_progress() -> None:
    pace = Pace()
    rests = [pace.after(progress=False, cost_s=0.0) for _ in range(12)]
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_INTERVAL_S
    assert pace.after(progress=True, cost_s=0.0) == FIRST_INTERVAL_S


def test_a_costly_question_is_asked_seldom() -> None:
    assert Pace().after(progress=True, cost_s=0.1) == REST_PER_COST * 0.1


def test_a_long_poll_asks_about_all_jobs_in_groups() -> None:
    jobs = Jobs(new_ids(MAX_IDS + 1))
    last = list(jobs.states)[-1]
    jobs.end(last)
    watch = HttpWatch(jobs.ask)
    watch.add(jobs.states)
    assert watch.next(None) == [last]
    assert [len(question) for question in jobs.questions] == [1, MAX_IDS]
    assert watch.next(0) == []


def test_a_long_poll_tells_of_unknown_jobs() -> None:
    watch = HttpWatch(Jobs(()).ask)
    watch.add([new_id()])
    with pytest.raises(UnknownJob):
        watch.next(1)


def test_the_cache_drops_what_was_used_longest_ago() -> None:
    cache: FinishedCache[str] = FinishedCache(4, size=len)
    first, second, third = new_ids(3)
    cache.put(first, "aa")
    cache.put(second, "bb")
    assert cache.get(first) == "aa"
    cache.put(third, "cc")
    assert [cache.get(id) for id in (first, second, third)] == ["aa", None, "cc"]


def test_the_cache_keeps_the_last_value_whatever_its_size() -> None:
    cache: FinishedCache[str] = FinishedCache(1, size=len)
    first, second = new_ids(2)
    cache.put(first, "long")
    cache.put(second, "longer")
    assert [cache.get(id) for id in (first, second)] == [None, "longer"]


def test_a_job_that_is_named_is_asked_about_at_once(jobs: Jobs) -> None:
    first, second, _ = jobs.states
    named: SimpleQueue[set[UUID]] = SimpleQueue()

    def hints(wanted: Callable[[], bool]) -> Iterator[set[UUID]]:
        while wanted():
            with suppress(Empty):
                yield named.get(timeout=0.05)

    def slow(ids: Collection[UUID]) -> Mapping[UUID, JobState]:
        # So dear a question that without a hint the next would be asked in an hour.
        now[0] += 3600 / REST_PER_COST
        return jobs.ask(ids)

    def ask_ended(ids: Collection[UUID]) -> Mapping[UUID, JobState]:
        of_named.append(set(ids))
        return jobs.ask(ids)

    now, of_named = [0.0], list[set[UUID]]()
    with closing(Watcher(slow, hints=hints, ask_ended=ask_ended, clock=lambda: now[0])) as watcher:
        watch = WatcherWatch(watcher)
        watch.add([first])
        wait_until(lambda: jobs.questions)
        jobs.end(first)
        named.put({second, first})
        assert watch.next(5) == [first]
    assert of_named == [{first}]
