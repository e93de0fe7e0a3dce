"""A Hugging Face text model: a row is a string, the output its embedding.

Without `pretrained` it has random weights and takes bytes for tokens, so that it runs without a download.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

LONGEST = 128


class Model:
    """What Shunter runs."""

    def load(self, directory: Path, device: str, *, pretrained: str | None = None) -> None:
        """Read the encoder and its tokenizer, once in each engine."""
        self.load_preprocess(directory, pretrained=pretrained)
        if pretrained:
            encoder = AutoModel.from_pretrained(directory / pretrained, local_files_only=True)
        else:
            encoder = _random_encoder()
        self._encoder = encoder.to(device).eval()

    def load_preprocess(self, directory: Path, *, pretrained: str | None = None) -> None:
        """Read only what tokenizing needs, for [run] preprocess_processes."""
        self._tokenizer: Any = None
        if pretrained:
            self._tokenizer = AutoTokenizer.from_pretrained(directory / pretrained, local_files_only=True)

    def preprocess_batch(self, texts: list[str]) -> list[list[int]]:
        """The token ids of each text, cut off at the longest."""
        if self._tokenizer is None:
            return [[1, *text.encode()][:LONGEST] for text in texts]
        ids: list[list[int]] = self._tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
        return ids

    def length(self, ids: list[int]) -> int:
        """The tokens of a text: texts of similar length share batches."""
        return len(ids)

    def collate(self, rows: list[list[int]], *, pad_to: int | None) -> dict[str, Tensor]:
        """Token ids, padded, and which of them are real."""
        width = min(pad_to or LONGEST, LONGEST)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """One embedding for each row, in order: the mean over its real tokens, of length one."""
        hidden = self._encoder(**batch).last_hidden_state
        real = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return F.normalize((hidden * real).sum(1) / real.sum(1), dim=1)


def _random_encoder() -> BertModel:
    config = BertConfig(
        vocab_size=256, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertModel(config)
