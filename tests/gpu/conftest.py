"""Without CUDA, every test here is skipped."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def needs_cuda() -> None:
    """Skip where there is no GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
