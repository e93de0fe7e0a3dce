"""What model code raised, as its author wants to read it: their line first, and none of our frames."""

from __future__ import annotations

import traceback
from pathlib import Path

# Of the package, wherever its parts are linked from.
_OURS = Path(__file__).parents[2].resolve()
_LINKED = tuple((_OURS / name).resolve() for name in ("storage", "workers"))


def author_line(error: BaseException, directory: Path) -> str:
    """`model.py:12 in forward: ValueError: ...`: the last of the author's lines that it went through."""
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__) if _is_authors(frame.filename, directory)
    ]
    what = traceback.format_exception_only(error)[-1].strip()
    if not own:
        return what
    last = own[-1]
    return f"{Path(last.filename).resolve().relative_to(directory)}:{last.lineno} in {last.name}: {what}"


def author_traceback(error: BaseException, directory: Path) -> str:
    """The traceback from the author's first line on, with the errors it came from; ends with a newline."""
    told = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = told
    while part is not None:
        part.stack = traceback.StackSummary.from_list(_own(list(part.stack), directory))
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    return "".join(told.format())


def _own(frames: list[traceback.FrameSummary], directory: Path) -> list[traceback.FrameSummary]:
    first = next((at for at, frame in enumerate(frames) if _is_authors(frame.filename, directory)), 0)
    return [
        frame
        for frame in frames[first:]
        if _is_authors(frame.filename, directory)
        or not (_is_ours(frame.filename) or frame.filename.startswith("<frozen importlib"))
    ]


def _is_authors(filename: str, directory: Path) -> bool:
    return Path(filename).resolve().is_relative_to(directory)


def _is_ours(filename: str) -> bool:
    path = Path(filename).resolve()
    return any(path.is_relative_to(folder) for folder in (_OURS, *_LINKED))
