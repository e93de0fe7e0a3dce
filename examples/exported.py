"""Run an exported model; `shunter models new exported --template onnx` made it, without any code."""

import numpy as np

from shunter import Client

with Client() as client:
    job = client.submit("exported", np.random.default_rng(0).normal(size=(8, 4)).astype("float32"))
    for output in job.outputs():
        print(output)
