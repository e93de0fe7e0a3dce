"""Embed texts, find the nearest to a question: a model of `shunter models new texts --template hf-text`."""

import numpy as np

from shunter import Client

TEXTS = [
    "The night train leaves at ten.",
    "Cheese is made of milk.",
    "The last train has left the station.",
    "Rows of like length share a batch.",
]

with Client() as client:
    question, *embeddings = client.map("texts", ["When does the train leave?", *TEXTS])
    likeness = np.stack(embeddings) @ np.asarray(question)
    for index in likeness.argsort()[::-1]:
        print(f"{likeness[index]:.3f}  {TEXTS[index]}")
