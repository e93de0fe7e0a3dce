"""The pytest plugin that comes with Shunter: a fixture that makes in-memory clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shunter.testing import InMemoryClient


@pytest.fixture
def shunter_client() -> Iterator[Callable[..., InMemoryClient]]:
    """Makes clients as `shunter.testing.InMemoryClient` does, and closes them after the test.

    Example:
        >>> def test_it_doubles(shunter_client):
        ...     client = shunter_client("models")
        ...     assert client.submit("double", [21]).outputs() == [42]
    """
    from shunter.testing import InMemoryClient

    with ExitStack() as clients:
        yield lambda *args, **options: clients.enter_context(InMemoryClient(*args, **options))
