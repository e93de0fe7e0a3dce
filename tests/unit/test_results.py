"""Where blocks live."""

from uuid import UUID

import pytest

from shunter.storage.errors import ObjectNotFound
from shunter.storage.results import INLINE_LIMIT_BYTES, Blob, input_key, load_block, output_key, store_block
from shunter.storage.testing import InMemoryObjectStore

JOB = UUID("019a9b6e-0e00-7000-8000-000000000000")  # 2025-11-19


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT_BYTES])
def test_a_small_block_is_inline(size: int) -> None:
    store = InMemoryObjectStore()
    blob = store_block(store, b"x" * size, key=lambda: "outputs/a")
    assert blob == Blob(inline=b"x" * size, key=None)
    assert load_block(store, blob) == b"x" * size
    assert list(store.list("")) == []


def test_a_large_block_is_an_object() -> None:
    store = InMemoryObjectStore()
    block = b"x" * (INLINE_LIMIT_BYTES + 1)
    blob = store_block(store, block, key=lambda: "outputs/a")
    assert blob == Blob(inline=None, key="outputs/a")
    assert load_block(store, blob) == block


def test_a_block_whose_object_is_gone_is_named() -> None:
    with pytest.raises(ObjectNotFound, match="outputs/a"):
        load_block(InMemoryObjectStore(), Blob(inline=None, key="outputs/a"))


@pytest.mark.parametrize(("inline", "key"), [(None, None), (b"", "key")])
def test_a_blob_is_in_exactly_one_place(inline: bytes | None, key: str | None) -> None:
    with pytest.raises(ValueError, match="either"):
        Blob(inline=inline, key=key)


def test_keys_name_the_day_the_job_and_the_epoch() -> None:
    assert input_key(JOB) == f"inputs/20251119/{JOB}"
    assert output_key(JOB, 3).startswith(f"outputs/20251119/{JOB}/3-")
