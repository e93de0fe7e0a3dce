"""Writes 1/model.onnx; put your own network in place of this one. Needs torch, onnx and onnxscript."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

VERSION = Path(__file__).with_name("1")

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1)).eval()

torch.onnx.export(
    network,
    (torch.zeros(2, 4),),
    VERSION / "model.onnx",
    input_names=["features"],
    output_names=["probabilities"],
    # The first dimension counts the rows of a batch, so it must be free.
    dynamic_shapes=({0: torch.export.Dim("batch")},),
    dynamo=True,
    external_data=False,
)
