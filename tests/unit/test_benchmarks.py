"""What the benchmarks say about runs, and that every set can be named and entered."""

import subprocess
import sys

import pytest

from benchmarks.figures import Run, cpu_ratios, rate_table, ratios, scaled
from benchmarks.report import markdown, percentile, spread
from benchmarks.sets import SETS, measure_of

SLOW = [Run(100, 2.0, cpu_s=1.0, rss_bytes=2**20), Run(100, 4.0, cpu_s=2.0, rss_bytes=3 * 2**20)]
FAST = [Run(1000, 2.0, cpu_s=1.0, rss_bytes=2**20), Run(1000, 2.0, cpu_s=1.0, rss_bytes=2**20)]


def test_ratios_are_taken_within_each_repetition() -> None:
    assert ratios(FAST, SLOW) == [10.0, 20.0]


def test_cpu_ratios_say_how_much_more_the_other_used() -> None:
    assert cpu_ratios(FAST, SLOW) == [10.0, 20.0]


def test_a_run_too_short_to_be_counted_has_used_a_tick_of_cpu() -> None:
    assert Run(10, 0.1).cpu_s_per_1000 == 1.0


def test_runs_of_different_number_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios(FAST, SLOW[:1])


def test_the_table_tells_rates_with_their_range_and_what_the_worker_used() -> None:
    columns, rows = rate_table({"fast": FAST, "slow": SLOW}, "fast")
    assert columns[4] == "fast ÷ it"
    assert rows[0] == ["fast", "1,000", 2, "500 (500 - 500)", "1", 1.0, "1", "1"]
    assert rows[1] == ["slow", "100", 2, "37.5 (25 - 50)", "15 (10 - 20)", 15.0, "15 (10 - 20)", "2"]


def test_a_table_is_markdown_with_short_numbers() -> None:
    assert markdown(["a", "b"], [["x", 12345.6]]) == "| a | b |\n| --- | --- |\n| x | 12,346 |"


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0], share) for share in (0.5, 0.99, 1.0)] == [2.0, 4.0, 4.0]
    assert spread([3.0, 1.0, 2.0]) == "2 (1 - 3)"


def test_a_run_is_scaled_to_the_wanted_time_in_whole_steps() -> None:
    assert scaled(100, 1.0, wanted_s=5.5, step=256) == 512
    assert scaled(100, 1.0, wanted_s=0.1, step=256) == 256
    assert scaled(100, 1e-6, wanted_s=10, most=1000) == 1000


@pytest.mark.parametrize("name", SETS)
def test_every_set_can_be_measured_by_its_name(name: str) -> None:
    pytest.importorskip("celery")
    assert callable(measure_of(name))


def test_contestants_of_one_table_have_names_and_settings_of_their_own() -> None:
    pytest.importorskip("celery")
    from benchmarks.sets import items, jobs, lengths, peers, served, submit

    for entered in (
        items.contestants(),
        jobs.contestants(),
        submit.contestants(),
        lengths.contestants(),
        peers.contestants(),
        served.contestants("mlp", first=1),
    ):
        names = [contestant.name for contestant in entered]
        assert len(set(names)) == len(names)
        assert all(contestant.settings for contestant in entered)


def test_the_sets_are_listed_without_starting_anything() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--list"], capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(SETS)
