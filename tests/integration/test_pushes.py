"""What is sent to Redis before its answer is read: over connections that Redis may have closed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shunter.producers.publisher import Publisher
from shunter.storage.envelope import Envelope, decode
from shunter.storage.ids import new_id
from shunter.storage.push import MAX_TOKENS, Exchange, KeptConnections, pack, pushes, token_key

PAUSE_MS = 60_000
"""Redis does not write meanwhile, until it is told to go on."""


def envelope() -> Envelope:
    id = new_id()
    return Envelope(id=id, ids=(id,), model="digits", version=1, rows=1, enqueued_at=1.5)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1))) as client:
        yield client


def lying(client: redis.Redis) -> list[Envelope]:
    raws: list[bytes] = client.lrange("infer.digits", 0, -1)  # type: ignore[assignment]
    return [decode(raw) for raw in raws]


def hang_up(client: redis.Redis) -> None:
    """Redis ends every connection but the one that asks for it."""
    client.client_kill_filter(_type="normal", skipme=True)


def test_envelopes_are_there_with_few_tokens_once_the_answer_is_read(client: redis.Redis) -> None:
    sent = [envelope() for _ in range(MAX_TOKENS + 5)]
    pool = KeptConnections(client)
    for one in sent:
        Exchange(pool, pushes([one])).answers()
    assert lying(client) == sent[::-1]
    assert client.llen(token_key("infer.digits")) == MAX_TOKENS


def test_a_publisher_outlives_that_redis_hangs_up(client: redis.Redis, redis_url: str) -> None:
    sent = [envelope(), envelope()]
    with closing(Publisher(redis_url)) as publisher:
        for one in sent:
            publisher.publish([one]).close()
            hang_up(client)
        assert publisher.dispatching
    assert lying(client) == sent[::-1]


def test_what_redis_did_not_answer_is_said_again(client: redis.Redis) -> None:
    one, pool = envelope(), KeptConnections(client)
    client.client_pause(PAUSE_MS, all=False)
    exchange = Exchange(pool, pushes([one]))
    hang_up(client)
    client.client_unpause()
    exchange.answers()
    assert lying(client) == [one]


def test_a_connection_whose_commands_were_refused_is_not_asked_for_their_answers(client: redis.Redis) -> None:
    pool, nonsense = KeptConnections(client), [pack("NONE"), pack("PING")]
    with pytest.raises(redis.ResponseError):
        Exchange(pool, nonsense).answers()
    assert Exchange(pool, [pack("ECHO", "hi")]).answers() == [b"hi"]


def test_a_connection_is_kept_and_not_used_in_a_forked_child(client: redis.Redis) -> None:
    pool = KeptConnections(client)
    kept = pool.get_connection()
    pool.release(kept)
    assert pool.get_connection() is kept
    kept.pid = os.getpid() + 1
    pool.release(kept)
    assert pool.get_connection() is not kept
