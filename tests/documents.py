"""The code blocks of the documents, and which of them are run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

DOCUMENTS = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

RUNNABLE = ("sh", "python")
CHECKED = ("toml",)
SHOWN = ("", "mermaid", "text")
"""Pictures and outputs."""

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `reason` says why it is not run, if it is not."""

    document: str
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def place(self) -> str:
        """Where to look when it fails."""
        return f"{self.document}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Every block of a document, in order."""
    text = document.read_text()
    return [
        Block(
            str(document.relative_to(ROOT)),
            text[: found.start("code")].count("\n") + 1,
            found["language"],
            found["code"],
            found["reason"],
        )
        for found in _BLOCK.finditer(text)
    ]


def runnable(document: Path) -> list[Block]:
    """The blocks of a document that are to be run."""
    return [block for block in blocks(document) if block.language in RUNNABLE and block.reason is None]
