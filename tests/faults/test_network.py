"""The network between a worker and one service is silent, slow or cut; the others are not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from shunter.storage.worker_registry import LEASE_S
from tests.faults.arena import arena, pass_time, size
from tests.faults.proxy import HOST, Proxy
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def through(proxy: Proxy, url: str) -> str:
    """The URL of a service, by way of the proxy."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    query = "sslmode=disable" if parts.scheme.startswith("postgres") else ""
    return urlunsplit(parts._replace(netloc=f"{user}{HOST}:{proxy.port}", query=query))


def test_a_redis_that_is_slow_then_cut_then_silent_costs_only_time(tmp_path: Path) -> None:
    with arena(tmp_path) as place, Proxy(place.redis.port) as network:
        hub = place.start_hub(redis_url=through(network, place.redis.url))
        network.delay_s = 0.1
        place.wait(place.submit(20))
        network.delay_s = 0.0
        for _ in range(3):
            network.cut()
            place.submit(20)
        network.silence()
        place.submit(20)
        pass_time(size(2, 8))
        network.heal()
        place.wait()
        assert place.tally().sound
        assert not hub.dead


@pytest.mark.full
def test_a_worker_that_cannot_reach_postgres_is_replaced_and_writes_nothing_late(tmp_path: Path) -> None:
    with arena(tmp_path, row_s=0.02, max_rows=8) as place, Proxy(place.postgres.port) as network:
        cut_off = place.start_hub(database_url=through(network, place.settings.database_url))
        place.submit(200)
        wait_until(lambda: place.done() > 5, 60)
        network.silence()
        place.start_hub()
        wait_until(lambda: cut_off.incarnation not in place.registry.beats(), 4 * LEASE_S)
        place.wait()
        network.heal()
        assert wait_until(lambda: place.incarnation_of(cut_off.pid), 60) != cut_off.incarnation
        assert place.tally().sound
        assert not cut_off.dead
