"""What goes wrong while a model is loaded, told to its author."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shunter.storage.errors import ModelLoadError

TAIL_FRAMES = 5
"""The last calls before the error; the first ones are ours."""


@contextmanager
def author_errors(path: Path, remedy: str) -> Iterator[None]:
    """Whatever is raised inside becomes a ModelLoadError with the end of its traceback and a remedy."""
    try:
        yield
    except ModelLoadError:
        raise
    except (Exception, SystemExit) as error:
        message = f"{path} cannot be loaded: {type(error).__name__}: {error}\n{_tail(error, path)}{remedy}"
        raise ModelLoadError(message) from error


def _tail(error: BaseException, path: Path) -> str:
    frames = list(traceback.extract_tb(error.__traceback__))
    own = [index for index, frame in enumerate(frames) if Path(frame.filename).is_relative_to(path.parent)]
    frames = frames[own[0] :] if own else frames
    return "".join(traceback.format_list(frames[-TAIL_FRAMES:]))
