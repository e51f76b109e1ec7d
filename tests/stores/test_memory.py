import pytest

from headrace.model.errors import NotFound
from headrace.model.objects import ByteRange
from headrace.stores.contract import read_all
from headrace.stores.memory import MemoryStore


async def test_calls_and_bytes_are_counted() -> None:
    store = MemoryStore()
    store.put("a", b"0123456789")
    await read_all(store, "a", ByteRange(2, 5))
    await read_all(store, "a")
    await store.info("a")
    assert (store.calls["read"], store.calls["info"], store.bytes_read) == (2, 1, 13)


async def test_equal_bytes_are_one_version_unless_the_store_is_versioned() -> None:
    plain, versioned = MemoryStore(), MemoryStore(versioned=True)
    assert plain.put("a", b"x").version == plain.put("a", b"x").version
    first, second = versioned.put("a", b"x"), versioned.put("a", b"x")
    assert first.version != second.version
    assert first.etag == second.etag
    assert (await versioned.info("a")).version_id == second.version_id


async def test_what_was_put_is_told() -> None:
    store = MemoryStore()
    store.put("a", b"x", content_type="text/csv", metadata=(("owner", "me"),), tags=(("b", "2"), ("a", "1")), modified_s=12.0)
    info = await store.info("a")
    assert (info.content_type, info.metadata, info.modified_s) == ("text/csv", (("owner", "me"),), 12.0)
    assert await store.tags("a") == (("a", "1"), ("b", "2"))
    assert store.body("a") == b"x"


def test_deleting_what_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        MemoryStore().remove("a")
