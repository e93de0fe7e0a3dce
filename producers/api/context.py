"""What the routes of one app share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from shunter.producers.api.body_room import BodyRoom
from shunter.producers.api.long_polls import LongPolls
from shunter.producers.api.metrics import Metrics
from shunter.producers.direct import DirectBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One app's way to the services, and its own state."""

    backend: DirectBackend
    polls: LongPolls
    metrics: Metrics
    max_body_bytes: int
    bodies: BodyRoom


def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


WithContext = Annotated[Context, Depends(_context)]
