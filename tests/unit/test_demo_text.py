"""The text demo's parts: real text, and the encoder with random weights where its extra is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shunter import demo_text
from shunter.demo_texts import paragraphs
from shunter.storage.errors import SettingsError
from shunter.workers.runner import Runner


def test_the_texts_are_real_different_and_of_many_lengths() -> None:
    texts = paragraphs(100)
    assert len(set(texts)) == 100
    assert len({len(text.split()) for text in texts}) > 10
    assert paragraphs(100) == texts


def test_without_the_extra_the_command_to_install_it_is_named() -> None:
    with pytest.raises(SettingsError, match=r"needs nowhere_to_be_found: pip install 'shunter\[text\]'"):
        demo_text.check_extra(needed=("json", "nowhere_to_be_found"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A tiny encoder with random weights, and a tokenizer of a few words."""
    import transformers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "jobs", "share", "batches"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    return tmp_path


def test_an_embedding_does_not_depend_on_the_rows_beside_it(weights: Path) -> None:
    from shunter.demo_model.text.model import Model

    model = Model()
    model.load(weights, "cpu", weights=str(weights))
    runner = Runner(model)
    values = runner.preprocess(["jobs share batches", "jobs", "share batches " * 200])
    assert [model.length(value) for value in values] == [5, 3, 128]
    together = runner.forward(values, pad_to=128).results
    for value, output in zip(values, together, strict=True):
        (alone,) = runner.forward([value], pad_to=len(value)).results
        assert np.allclose(output["embedding"], alone["embedding"], atol=1e-5)
        assert (output["tokens"], output["padded_to"]) == (len(value), 128)
