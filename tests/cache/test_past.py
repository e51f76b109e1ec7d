"""Past the cache: no pages, the store's own word, and nobody is left believing what was replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cache.past import PastCache
from headrace.model.errors import NotFound
from headrace.model.writing import BytesBody
from headrace.stores.memory import MemoryStore
from headrace.stores.parts import parts_etag
from support.caching import Rig

BODY = b"x" * 300_000


async def body_of(store: PastCache, key: str) -> bytes:
    return b"".join([bytes(piece) async for piece in await store.read(key)])


@pytest.fixture
def inner() -> MemoryStore:
    store = MemoryStore(min_part_bytes=1)
    store.put("k", BODY)
    return store


@pytest.fixture
def rig(tmp_path: Path, inner: MemoryStore) -> Rig:
    return Rig(tmp_path, inner)


async def test_what_passes_leaves_no_pages(rig: Rig) -> None:
    past = PastCache(rig.store)
    assert await body_of(past, "k") == BODY
    await past.write("l", BytesBody(BODY))
    assert not [path for path in rig.home.rglob("*") if path.is_file() and path.stat().st_size >= len(BODY)]


async def test_it_asks_the_store_whatever_the_cache_believes(rig: Rig, inner: MemoryStore) -> None:
    before = await rig.store.info("k")
    inner.put("k", b"newer")
    assert await rig.store.info("k") == before
    past = PastCache(rig.store)
    assert (await past.info("k")).size == 5
    assert await body_of(past, "k") == b"newer"


async def test_every_way_to_change_an_object_voids_what_was_known(rig: Rig) -> None:
    past = PastCache(rig.store)

    async def complete() -> None:
        upload = await past.multipart().begin("k")
        part = await past.multipart().put(upload, 1, BytesBody(b"parts"))
        made = await past.multipart().complete(upload, (part,))
        assert made.etag == parts_etag([part])

    for change, size in (
        (lambda: past.write("k", BytesBody(b"1")), 1),
        (complete, 5),
        (lambda: past.delete("k"), None),
    ):
        await _believed(rig)
        await change()
        if size is None:
            with pytest.raises(NotFound):
                await rig.store.info("k")
        else:
            assert (await rig.store.info("k")).size == size


async def test_a_copy_voids_what_was_known_of_its_target(rig: Rig) -> None:
    past = PastCache(rig.store)
    with pytest.raises(NotFound):
        await rig.store.info("l")
    await past.copy(await past.info("k"), "l")
    assert (await rig.store.info("l")).size == len(BODY)


async def _believed(rig: Rig) -> None:
    """The cache has an answer that is fresh."""
    await rig.store.info("k")
