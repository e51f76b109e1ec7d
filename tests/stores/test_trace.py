"""Every call that reaches a store is told once, whatever its end."""

from __future__ import annotations

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import ConditionFailed, NotFound, Unavailable
from headrace.model.events import StoreCall
from headrace.model.objects import ByteRange
from headrace.model.writing import BytesBody, Condition
from headrace.stores.contract import StoreContract
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_writing import WritingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store
from headrace.stores.trace import TraceStore
from support.flaky import FlakyStore, SteppedClock


class TestTraceStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return TraceStore(self.memory, "/m", lambda _: None, SystemClock())

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


async def test_each_call_is_told_once_with_its_bytes_and_error() -> None:
    inner, events = FlakyStore(), []
    inner.memory.put("k", b"body")
    store = TraceStore(inner, "/m", events.append, SteppedClock())
    await store.info("k")
    await store.list()
    await store.tags("k")
    await read_all(store, "k", ByteRange(1, 3))
    with pytest.raises(NotFound):
        await store.read("absent")
    assert "absent" in events[-1].message
    assert events == [
        StoreCall("/m", "info", 0.0, 0),
        StoreCall("/m", "list", 0.0, 0),
        StoreCall("/m", "tags", 0.0, 0),
        StoreCall("/m", "read", 0.0, 2),
        StoreCall("/m", "read", 0.0, 0, "NotFound", events[-1].message),
    ]


async def test_a_body_that_breaks_or_is_given_up_is_told_once() -> None:
    inner, events = FlakyStore(), []
    inner.memory.put("k", b"x" * 1_000_000)
    store = TraceStore(inner, "/m", events.append, SteppedClock())
    inner.broken_bodies, inner.break_after, inner.body_error = 1, 1, Unavailable("cut")
    with pytest.raises(Unavailable):
        await read_all(store, "k")
    reading = await store.read("k")
    await reading.aclose()
    await reading.aclose()
    assert [(event.verb, event.bytes, event.error) for event in events] == [("read", 262144, "Unavailable"), ("read", 0, "")]


async def test_words_are_bounded_and_only_our_own() -> None:
    inner, events = FlakyStore(), []
    inner.memory.put("k", b"x" * 1_000_000)
    store = TraceStore(inner, "/m", events.append, SteppedClock())
    for error in (Unavailable("w" * 5000), RuntimeError("a secret")):
        inner.broken_bodies, inner.break_after, inner.body_error = 1, 1, error
        with pytest.raises(type(error)):
            await read_all(store, "k")
    assert [(event.error, event.message) for event in events] == [("Unavailable", "w" * 300), ("RuntimeError", "")]


async def test_a_write_is_told_with_the_bytes_that_it_sent() -> None:
    memory, events = MemoryStore(), []
    store = TraceStore(memory, "/m", events.append, SteppedClock())
    await store.write("k", BytesBody(b"body"))
    await store.copy(await memory.info("k"), "l")
    await store.set_tags("k", (("a", "1"),))
    await store.delete("l")
    uploads = store.multipart()
    upload = await uploads.begin("m")
    part = await uploads.put(upload, 1, BytesBody(b"part"))
    await uploads.complete(upload, (part,))
    with pytest.raises(ConditionFailed):
        await store.write("k", BytesBody(b"other"), condition=Condition(if_none_match="*"))
    assert [(event.verb, event.bytes, event.error) for event in events] == [
        ("write", 4, ""),
        ("copy", 0, ""),
        ("set_tags", 0, ""),
        ("delete", 0, ""),
        ("begin_upload", 0, ""),
        ("put_part", 4, ""),
        ("complete_upload", 0, ""),
        ("write", 5, "ConditionFailed"),
    ]
