"""The documents without running them: every block is accounted for, and what they name exists."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.documents import CHECKED, DOCUMENTS, ROOT, RUNNABLE, SHOWN, Block, blocks

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def test_every_fence_is_a_block() -> None:
    for document in DOCUMENTS:
        fences = re.findall(r"^```", document.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(document)), document.name


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_every_block_is_run_checked_or_only_shown(block: Block) -> None:
    assert block.language in (*RUNNABLE, *CHECKED, *SHOWN)
    if block.language == "python":
        ast.parse(block.code)
    if block.language == "toml":
        tomllib.loads(block.code)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_no_command_hides_in_a_block_that_is_only_shown(block: Block) -> None:
    if block.language in SHOWN:
        assert not re.search(r"^(?:shunter|pip|make|python|eval) ", block.code, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    missing = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert missing == []
