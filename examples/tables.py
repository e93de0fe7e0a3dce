"""Classify rows one by one; `shunter models new tables --template sklearn` made the model."""

import random

from shunter import Client

rows = [[random.gauss(0, 1) for _ in range(4)] for _ in range(500)]

with Client() as client:
    items = client.submit_many("tables", rows)
    labels = [item.output()["label"] for item in items]
    print(f"{sum(labels)} of {len(rows)} rows are positive")
