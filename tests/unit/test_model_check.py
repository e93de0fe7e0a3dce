"""Each fault that a model can have, and its name."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import Any

import pytest

from shunter.storage.errors import SettingsError
from shunter.storage.model_config import parse
from shunter.workers.batch import Timing
from shunter.workers.checking.check import check_model
from shunter.workers.checking.examples import ROWS, example_rows
from shunter.workers.checking.findings import Fault, Report
from shunter.workers.checking.growth import LEAST_STEP, SETTLING, read_memory, steady_growth
from shunter.workers.checking.pipeline import StageError
from shunter.workers.checking.sizes import BUDGET_S, recommend, time_sizes

NUMBERS = [[3.0, 1.0], [1.0, 2.0], [2.0, 5.0], [9.0, 4.0], [7.0, 8.0]]

TORCH_MODEL = """
    import torch

    class Model:
        def load(self, directory, device):
            torch.manual_seed(0)
            self.net = torch.nn.Sequential({layers})

        def forward(self, rows):
            return self.net(torch.tensor(rows))
"""


def check(
    tmp_path: Path, source: str, rows: list[Any] | None = None, *, config: str = "", max_rows: int = 8
) -> Report:
    directory = tmp_path / "tiny" / "1"
    directory.mkdir(parents=True)
    (directory / "model.py").write_text(textwrap.dedent(source))
    (directory / "model.toml").write_text(config)
    return check_model(directory, rows, max_rows=max_rows)


def forward(body: str) -> str:
    return "class Model:\n    def forward(self, rows):\n" + textwrap.indent(textwrap.dedent(body), " " * 8)


def codes(report: Report) -> list[Fault]:
    return [finding.code for finding in report.findings]


def test_a_good_model_has_no_finding_and_a_recommended_size(tmp_path: Path) -> None:
    report = check(tmp_path, forward("return [sum(row) for row in rows]"), NUMBERS)
    assert report.findings == []
    assert [timing.rows for timing in report.timings] == [1, 2, 4, 8]
    assert report.recommended_rows in {1, 2, 4, 8}
    assert report.notes == ["outputs alone, in a batch and in another order are identical"]


@pytest.mark.parametrize(
    ("body", "fault", "told"),
    [
        ("return rows[: max(1, len(rows) - 1)]", Fault.DROPS_OUTPUTS, "4 outputs for 5 rows"),
        ("return rows * len(rows)", Fault.DUPLICATES_OUTPUTS, "25 outputs for 5 rows"),
        ("return [rows[0]] * len(rows)", Fault.DUPLICATES_OUTPUTS, "row 1 gets the output of row 0"),
        ("return sorted(rows)", Fault.PERMUTES_OUTPUTS, "row 0 gets the output of row 1"),
        ("return rows[::-1]", Fault.PERMUTES_OUTPUTS, "row 0 gets the output of row 4"),
        ("return [sum(row) / len(rows) for row in rows]", Fault.DEPENDS_ON_BATCH, "row 0 gets another"),
        ("import random\nreturn [random.random() for _ in rows]", Fault.NOT_DETERMINISTIC, "run again"),
        ("for row in rows: row[0] += 1\nreturn [row[0] for row in rows]", Fault.MUTATES_INPUT, "forward"),
        ("rows.append(0)\nreturn [0 for _ in rows]", Fault.MUTATES_INPUT, "copy before changing"),
        ("return [float('nan') for _ in rows]", Fault.NOT_FINITE, "row 0 holds NaN or infinity"),
        ("return [object() for _ in rows]", Fault.NOT_STORABLE, "object"),
        ("return 1", Fault.BAD_OUTPUTS, "cannot be split"),
        ("raise KeyError('pixels')", Fault.RAISES, "model.py:3 in forward: KeyError: 'pixels'"),
    ],
)
def test_a_fault_of_forward_is_named(tmp_path: Path, body: str, fault: Fault, told: str) -> None:
    found = {finding.code: finding.message for finding in check(tmp_path, forward(body), NUMBERS).findings}
    assert told in found[fault]


def test_a_fault_is_told_once_and_alone(tmp_path: Path) -> None:
    assert codes(check(tmp_path, forward("return sorted(rows)"), NUMBERS)) == [Fault.PERMUTES_OUTPUTS]


def test_a_model_that_sorts_is_found_though_its_rows_come_sorted(tmp_path: Path) -> None:
    assert codes(check(tmp_path, forward("return sorted(rows)"), sorted(NUMBERS))) == [Fault.PERMUTES_OUTPUTS]


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ("torch.nn.BatchNorm1d(2)", Fault.DEPENDS_ON_BATCH),
        ("torch.nn.Unflatten(1, (1, 2)), torch.nn.BatchNorm1d(1)", Fault.DEPENDS_ON_BATCH),
        ("torch.nn.Dropout(0.5)", Fault.NOT_DETERMINISTIC),
    ],
)
def test_layers_left_in_training_mode_are_found_and_named(tmp_path: Path, layers: str, fault: Fault) -> None:
    report = check(tmp_path, TORCH_MODEL.format(layers=layers), NUMBERS)
    assert codes(report) == [fault]
    assert "self.net is in training mode: call .eval() in load" in report.findings[0].message


def test_read_only_arrays_that_a_model_writes_to_are_a_mutation(tmp_path: Path) -> None:
    config = '[signature.inputs]\nx = { dtype = "float32", shape = [2] }'
    body = "for row in rows: row *= 2\nreturn [row.sum() for row in rows]"
    report = check(tmp_path, forward(body), config=config)
    assert codes(report) == [Fault.MUTATES_INPUT]
    assert "read-only" in report.findings[0].message


def test_preprocessing_that_changes_its_row_is_a_mutation(tmp_path: Path) -> None:
    source = """
        class Model:
            def preprocess(self, row):
                return row.pop()

            def forward(self, rows):
                return rows
    """
    report = check(tmp_path, source, NUMBERS)
    assert [f.code for f in report.findings] == [Fault.MUTATES_INPUT]
    assert "preprocessing" in report.findings[0].message


def test_a_model_whose_padding_leaks_is_told_apart_from_one_that_mixes_rows(tmp_path: Path) -> None:
    source = """
        class Model:
            def length(self, row):
                return len(row)

            def collate(self, rows, *, pad_to):
                return [row + [0.0] * (pad_to - len(row)) for row in rows]

            def forward(self, rows):
                return [sum(row) / len(row) for row in rows]
    """
    assert codes(check(tmp_path, source, [[1.0], [1.0, 2.0, 3.0]])) == [Fault.DEPENDS_ON_PADDING]


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        ("def preprocess_batch(self, rows): return rows + rows", "preprocess_batch returned 2 rows for 1"),
        ("def postprocess(self, output): return output.missing", "postprocess raises: model.py:4"),
        ("def length(self, row): return 1.5", "length returned 1.5 (float)"),
        ("def length(self, row): return True", "length returned True (bool)"),
    ],
)
def test_a_bad_hook_is_named(tmp_path: Path, hook: str, told: str) -> None:
    report = check(tmp_path, forward("return [sum(row) for row in rows]\n") + f"    {hook}\n", NUMBERS)
    assert codes(report) == [Fault.BAD_HOOK]
    assert told in report.findings[0].message


def test_memory_that_grows_with_every_batch_is_a_leak(tmp_path: Path) -> None:
    source = """
        import mmap

        class Model:
            def __init__(self):
                self.kept = []

            def forward(self, rows):
                # Not from the heap, where this process may have freed as much before.
                kept = mmap.mmap(-1, 2**15)
                kept.write(b"x" * 2**15)
                self.kept.append(kept)
                return rows
    """
    assert codes(check(tmp_path, source, NUMBERS)) == [Fault.LEAKS_MEMORY]


def test_a_model_that_is_slow_to_load_is_named(tmp_path: Path) -> None:
    source = """
        import time

        class Model:
            def load(self, directory, device):
                until = time.perf_counter() + 0.06
                while time.perf_counter() < until:
                    pass

            def forward(self, rows):
                return rows
    """
    report = check(tmp_path, source, NUMBERS, config="[run]\nload_timeout_s = 0.1")
    assert codes(report) == [Fault.SLOW_TO_LOAD]


def test_the_author_sees_their_own_frames_and_none_of_ours(tmp_path: Path) -> None:
    body = "try:\n    rows[0]['a']\nexcept TypeError as error:\n    raise ValueError('no a') from error"
    (finding,) = check(tmp_path, forward(body), NUMBERS).findings
    assert finding.message.endswith("model.py:6 in forward: ValueError: no a")
    assert finding.traceback.count("model.py") == 2
    assert "direct cause" in finding.traceback
    assert "runner.py" not in finding.traceback
    assert "isolation.py" not in finding.traceback


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "class Model:\n  def load(self, d, device): {}['w']\n  def forward(self, r): pass",
            "model.py:2 in load",
        ),
        ("import nothing_of_this_name", "model.py:1 in <module>: ModuleNotFoundError"),
        ("class Model(", "SyntaxError"),
        ("x = 1", "defines no class named Model"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_told_with_the_authors_line(
    tmp_path: Path, source: str, told: str
) -> None:
    (finding,) = check(tmp_path, source, NUMBERS).findings
    assert finding.code == Fault.LOAD_FAILS
    assert told in finding.message
    assert "python_file.py" not in finding.traceback


def test_rows_that_the_signature_refuses_are_told(tmp_path: Path) -> None:
    config = '[signature.inputs]\nx = { dtype = "float32", shape = [3] }'
    (finding,) = check(tmp_path, forward("return rows"), NUMBERS, config=config).findings
    assert finding.code == Fault.ROW_REFUSED
    assert "row 0: input 'x' has the shape (2,)" in finding.message


def test_without_rows_and_signature_it_is_said_how_to_give_rows(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="give --rows FILE"):
        check(tmp_path, forward("return rows"))


def test_rows_that_the_model_refuses_are_noted_and_left_out(tmp_path: Path) -> None:
    body = """
        from shunter import RowError
        if any(row[0] == 9 for row in rows):
            raise RowError("too_large", "9 is too large")
        return [sum(row) for row in rows]
    """
    report = check(tmp_path, forward(body), NUMBERS)
    assert report.findings == []
    assert report.notes[0] == "1 rows are refused: row 3: 9 is too large"


def test_rows_that_cannot_show_a_permutation_are_noted(tmp_path: Path) -> None:
    report = check(tmp_path, forward("return [1.0 for _ in rows]"), NUMBERS)
    assert "all outputs are alike" in report.notes[0]


def test_a_fault_of_larger_batches_only_is_found(tmp_path: Path) -> None:
    body = "if len(rows) > 6: raise OverflowError\nreturn [sum(row) for row in rows]"
    (finding,) = check(tmp_path, forward(body), NUMBERS).findings
    assert (finding.code, "in a larger batch" in finding.message) == (Fault.RAISES, True)


def test_example_rows_differ_and_fit_the_signature() -> None:
    inputs = {
        "image": {"dtype": "float32", "shape": [2, -1]},
        "ids": {"dtype": "int64", "shape": [-1]},
        "text": {"dtype": "string"},
    }
    config = parse({"signature": {"inputs": inputs}}, source="test")
    rows = example_rows(config)
    assert rows is not None
    config.signature.check_rows(rows)
    assert len({row["image"].tobytes() for row in rows}) == ROWS


def test_memory_leaks_only_if_it_grows_at_every_reading() -> None:
    first = [9 * LEAST_STEP] * SETTLING
    assert steady_growth([*first, 0, LEAST_STEP, 2 * LEAST_STEP]) == 2 * LEAST_STEP
    assert steady_growth([*first, 0, 9 * LEAST_STEP, 9 * LEAST_STEP]) is None
    assert steady_growth(first) is None


def test_a_slow_model_is_run_once_for_each_reading() -> None:
    ticks = itertools.count()
    readings, batches = read_memory(lambda: None, resident=lambda: 1, clock=lambda: next(ticks))
    assert len(readings) == batches


def test_the_fewest_rows_that_cost_about_the_least_are_recommended() -> None:
    timings = [Timing(1, 0, 1.0), Timing(2, 0, 1.1), Timing(4, 0, 2.1), Timing(8, 0, 4.0)]
    assert recommend(timings) == 2
    assert recommend([]) is None


def test_sizes_are_timed_until_the_budget_would_be_passed() -> None:
    now = itertools.count(0, BUDGET_S / 40)
    timings = time_sizes(lambda rows: None, largest=1000, clock=lambda: next(now))
    assert [timing.rows for timing in timings] == [1, 2, 4]


def test_a_size_that_lacks_memory_ends_the_timing() -> None:
    def batch(rows: int) -> None:
        if rows > 2:
            raise StageError("forward", MemoryError())

    assert [timing.rows for timing in time_sizes(batch, largest=16)] == [1, 2]
