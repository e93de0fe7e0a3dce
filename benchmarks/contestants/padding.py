"""A model that serves the encoder and notes of each batch how many tokens were real, and how many not."""

from __future__ import annotations

from pathlib import Path

SOURCE = """
import importlib.util
from pathlib import Path

ENCODER = Path({encoder!r})
NOTES = Path({notes!r})

spec = importlib.util.spec_from_file_location("encoder", ENCODER)
encoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(encoder)


class Model(encoder.Model):
    def collate(self, rows, *, pad_to):
        batch = super().collate(rows, pad_to=pad_to)
        with NOTES.open("a") as notes:
            notes.write(f"{{int(batch.real.sum())}} {{batch.real.numel()}}\\n")
        return batch
"""


def write_noted_encoder(directory: Path, encoder: Path, notes: Path) -> Path:
    """A model directory like the encoder's, which appends a line to `notes` for each batch."""
    version = directory / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(
        SOURCE.format(encoder=str(encoder / "1" / "model.py"), notes=str(notes))
    )
    (version / "model.toml").write_text((encoder / "1" / "model.toml").read_text())
    return directory


def padding_noted(notes: Path) -> float:
    """The share of padding among all tokens noted."""
    pairs = [[int(word) for word in line.split()] for line in notes.read_text().splitlines()]
    return 1 - sum(real for real, _ in pairs) / sum(whole for _, whole in pairs)
