"""From what was seen to what is wrong: each fault in words that name a row, a value and the remedy; pure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from shunter.storage.errors import OutputMismatch
from shunter.workers.checking.author_traceback import author_line, author_traceback
from shunter.workers.checking.comparison import Agreement, Comparison
from shunter.workers.checking.findings import Fault, Finding
from shunter.workers.checking.pipeline import StageError

_HOOKS = ("preprocess_batch", "length", "postprocess")


def of_error(failed: StageError, directory: Path, *, where: str) -> Finding:
    """What a StageError means; `where` says for which rows."""
    error = failed.error
    if isinstance(error, OutputMismatch):
        if failed.stage in _HOOKS:
            return Finding(Fault.BAD_HOOK, f"{failed.stage} {error.message}")
        return Finding(_of_count(error), f"{where}: {error.message}")
    code = Fault.BAD_HOOK if failed.stage in _HOOKS else Fault.RAISES
    message = f"{where}, {failed.stage} raises: {author_line(error, directory)}"
    return Finding(code, message, author_traceback(error, directory))


def of_load_error(error: BaseException, directory: Path) -> Finding:
    """Why a model could not be loaded; ours only says so, and the author's error is its cause."""
    cause = error.__cause__
    if cause is None:
        return Finding(Fault.LOAD_FAILS, str(error))
    message = f"loading raises: {author_line(cause, directory)}"
    return Finding(Fault.LOAD_FAILS, message, author_traceback(cause, directory))


def of_comparison(found: Comparison, *, by_padding: bool, model: object) -> Finding:
    """What disagreement between rows alone and together means."""
    row, source = found.row, found.source
    if found.agreement is Agreement.PERMUTED:
        return Finding(
            Fault.PERMUTES_OUTPUTS,
            f"in a batch, row {row} gets the output of row {source}: return outputs in the order of the rows",
        )
    if found.agreement is Agreement.REPEATED:
        return Finding(
            Fault.DUPLICATES_OUTPUTS,
            f"in a batch, row {row} gets the output of row {source}, which row {source} gets too: "
            "return one output for each row",
        )
    apart = (
        f"row {row} gets another output in a batch than alone (relative difference {found.difference:.2g})"
    )
    if by_padding:
        return Finding(
            Fault.DEPENDS_ON_PADDING,
            f"{apart}, and the same with equal padding: mask what pads a row, in every layer and in pooling",
        )
    remedy = _training(model) or "let no row's output depend on other rows, or on its place"
    return Finding(Fault.DEPENDS_ON_BATCH, f"{apart}: {remedy}")


def of_rows_that_fail_alone(failed: StageError, directory: Path, row: int, model: object) -> Finding:
    """A model that takes rows together, and not one by one."""
    remedy = _training(model) or "a batch may hold a single row at any time"
    return Finding(
        Fault.DEPENDS_ON_BATCH,
        f"row {row} succeeds in a batch, and alone {failed.stage} raises: "
        f"{author_line(failed.error, directory)}: {remedy}",
        author_traceback(failed.error, directory),
    )


def of_chance(found: Comparison, model: object) -> Finding:
    """A model that gives the same batch another output each time."""
    remedy = _training(model) or "seed what is random, and keep nothing between batches"
    return Finding(
        Fault.NOT_DETERMINISTIC,
        f"row {found.row} gets another output when the same batch is run again "
        f"(relative difference {found.difference:.2g}): {remedy}",
    )


def _of_count(error: OutputMismatch) -> Fault:
    if error.returned is None or error.expected is None:
        return Fault.BAD_OUTPUTS
    return Fault.DROPS_OUTPUTS if error.returned < error.expected else Fault.DUPLICATES_OUTPUTS


def _training(model: object) -> str | None:
    """The remedy for torch modules that were left in training mode, if the model has one."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    left = [
        f"self.{name}"
        for name, value in getattr(model, "__dict__", {}).items()
        if isinstance(value, torch.nn.Module) and any(module.training for module in value.modules())
    ]
    return f"{', '.join(left)} is in training mode: call .eval() in load" if left else None
