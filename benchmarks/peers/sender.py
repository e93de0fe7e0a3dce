"""The sending side of a peer: a process that is told on stdin how many rows to send."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from benchmarks.models import sample_rows


def serve_sends(send: Callable[[Any], object]) -> None:
    """For each number read, send so many rows and say so."""
    rows = [row.tolist() for row in sample_rows("mlp", 1000)]
    for line in sys.stdin:
        for number in range(int(line)):
            send(rows[number % len(rows)])
        print("sent", flush=True)
