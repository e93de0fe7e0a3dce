"""Only guilty rows fail, and finding them is cheap."""

import math
from collections.abc import Collection, Sequence

from hypothesis import given
from hypothesis import strategies as st

from shunter.storage.errors import OutputMismatch, RowError, Transient
from shunter.workers.isolation import Failure, Isolated, Raised, Retry, attempt, isolate, judge


class Model:
    """Doubles its rows; chokes on a batch with a bad one, or with too many."""

    def __init__(
        self, bad: Collection[int] = (), *, fits: int | None = None, error: Exception | None = None
    ) -> None:
        self.bad = bad
        self.fits = fits
        self.error = error or ValueError("bad row")
        self.batches: list[list[int]] = []

    def __call__(self, rows: Sequence[int]) -> list[int]:
        self.batches.append(list(rows))
        if self.fits is not None and len(rows) > self.fits:
            raise MemoryError
        if any(row in self.bad for row in rows):
            raise self.error
        return [row * 2 for row in rows]


def check(isolated: Isolated, bad: Collection[int], count: int) -> None:
    for index in range(count):
        if index in bad:
            assert isinstance(isolated.results[index], Failure)
        else:
            assert isolated.results[index] == index * 2


def test_a_good_batch_runs_once() -> None:
    isolated = isolate(256, Model())
    check(isolated, (), 256)
    assert (isolated.forwards, isolated.ceiling) == (1, None)


def test_one_bad_row_in_256_costs_at_most_twelve_more_forwards_wherever_it_is() -> None:
    for bad in range(256):
        isolated = isolate(256, Model({bad}))
        check(isolated, {bad}, 256)
        assert isolated.forwards - 1 <= math.log2(256) + 4


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_exactly_the_bad_rows_fail_within_the_bound(case: tuple[int, set[int]]) -> None:
    count, bad = case
    model = Model(bad)
    isolated = isolate(count, model)
    check(isolated, bad, count)
    per_row = math.ceil(math.log2(count)) + 3 if count > 1 else 3
    assert isolated.forwards == len(model.batches)
    assert isolated.forwards <= min(1 + len(bad) * per_row, 2 * count + math.log2(count) + 3)
    assert all([row] in model.batches for row in bad), "a guilty row is confirmed alone"


def test_a_model_that_always_fails_costs_little_more_than_one_by_one() -> None:
    isolated = isolate(256, Model(range(256)))
    assert isolated.forwards <= 2 * 256 + 11


def test_a_batch_that_only_fails_as_a_whole_succeeds_in_parts() -> None:
    calls = 0

    def moody(rows: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("once")
        return [row * 2 for row in rows]

    check(isolate(16, moody), (), 16)


def test_out_of_memory_halves_and_remembers_what_fits() -> None:
    model = Model(fits=30)
    isolated = isolate(256, model)
    check(isolated, (), 256)
    assert (isolated.ceiling, isolated.ooms) == (16, 4)
    assert sum(len(batch) > 30 for batch in model.batches) == 4, "no size is tried twice"


def test_a_known_ceiling_is_not_run_into_again() -> None:
    model = Model(fits=30)
    isolated = isolate(256, model, ceiling=16)
    check(isolated, (), 256)
    assert (isolated.ooms, isolated.ceiling) == (0, None)
    assert max(map(len, model.batches)) == 16


def test_out_of_memory_and_bad_rows_together() -> None:
    isolated = isolate(64, Model({3, 40}, fits=20))
    check(isolated, {3, 40}, 64)
    assert isolated.ceiling == 16


def test_a_trial_that_fits_is_one_forward() -> None:
    isolated = isolate(40, Model(fits=40), ceiling=32, trial=True)
    assert (isolated.forwards, isolated.ooms, isolated.ceiling, isolated.trial_failed) == (1, 0, None, False)


def test_a_trial_that_does_not_fit_runs_in_parts_that_do_and_is_no_news() -> None:
    isolated = isolate(40, Model(fits=32), ceiling=32, trial=True)
    check(isolated, (), 40)
    assert (isolated.forwards, isolated.ooms, isolated.ceiling, isolated.trial_failed) == (3, 0, None, True)


def test_memory_that_has_shrunk_is_news_in_a_trial_as_well() -> None:
    isolated = isolate(40, Model(fits=20), ceiling=32, trial=True)
    check(isolated, (), 40)
    assert (isolated.ooms, isolated.ceiling, isolated.trial_failed) == (1, 16, True)


def test_a_row_that_does_not_fit_alone_fails_by_itself() -> None:
    isolated = isolate(2, Model(fits=0))
    assert [failure.code for failure in isolated.results] == ["out_of_memory", "out_of_memory"]


def test_a_wrong_number_of_outputs_fails_the_whole_batch_at_once() -> None:
    isolated = isolate(8, Model({3}, error=OutputMismatch("7 outputs for 8 rows")))
    assert isolated.forwards == 1
    assert {failure.code for failure in isolated.results} == {"output_mismatch"}


def test_transient_is_a_retry_and_not_searched() -> None:
    isolated = isolate(8, Model({3}, error=Transient(2.5, "busy")))
    assert isolated.results == [Retry(2.5, "busy")] * 8
    assert isolated.forwards == 1


def test_a_row_error_keeps_its_code_and_another_error_gets_its_class() -> None:
    class PixelsMissingError(Exception):
        pass

    assert judge(RowError("too_dark", "no light")) == Failure("too_dark", "no light")
    assert judge(ValueError("bad")) == Failure("value_error", "bad")
    assert judge(PixelsMissingError()) == Failure("pixels_missing_error", "PixelsMissingError")


def test_a_model_that_exits_fails_its_row_and_not_the_engine() -> None:
    def leave(_: object) -> None:
        raise SystemExit(3)

    outcome = attempt(leave, 1)
    assert isinstance(outcome, Raised)
    assert judge(outcome.error) == Failure("system_exit", "3")
