"""Limits: places are held by open bodies and given back, the queue is bounded, bytes are paced."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.clock import SystemClock
from headrace.model.errors import NotFound, Unavailable
from headrace.model.writing import BytesBody
from headrace.stores.contract import StoreContract
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_tools import PiecesBody
from headrace.stores.contract_writing import WritingContract
from headrace.stores.faulty import Fault, FaultyStore
from headrace.stores.limit import LimitStore, TokenBucket
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store
from support.flaky import FlakyStore, SteppedClock


class TestLimitStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return LimitStore(self.memory, SystemClock(), max_concurrent=2)

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


async def test_an_open_body_holds_its_place_until_it_ends() -> None:
    inner = FlakyStore()
    inner.memory.put("k", b"body")
    store = LimitStore(inner, SystemClock(), max_concurrent=1)
    reading = await store.read("k")
    waiting = asyncio.create_task(store.info("k"))
    await asyncio.sleep(0.01)
    assert inner.calls == 1
    await reading.aclose()
    await reading.aclose()
    assert (await waiting).size == 4
    assert await read_all(store, "k") == b"body"
    assert (await store.info("k")).size == 4


async def test_failures_give_their_place_back() -> None:
    inner = FlakyStore()
    store = LimitStore(inner, SystemClock(), max_concurrent=1)
    for verb in (store.info, store.read, store.tags):
        for _ in range(3):
            with pytest.raises(NotFound):
                await verb("absent")
    assert (await store.list()).entries == ()


async def test_more_than_may_wait_are_refused_at_once() -> None:
    inner = FlakyStore()
    inner.hang = True
    store = LimitStore(inner, SystemClock(), max_concurrent=1, max_waiting=2)
    tasks = [asyncio.create_task(store.info("k")) for _ in range(3)]
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="2 calls wait"):
        await store.info("k")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    inner.hang = False
    with pytest.raises(NotFound):
        await store.info("k")


async def test_bytes_are_drawn_no_faster_than_the_bandwidth() -> None:
    inner, clock = MemoryStore(), SteppedClock()
    inner.put("k", b"x" * 4_000_000)
    store = LimitStore(inner, clock, max_concurrent=4, bytes_per_s=1_000_000, sleep=clock.sleep)
    started = clock.now
    assert len(await read_all(store, "k")) == 4_000_000
    assert 3.7 <= clock.now - started <= 4.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 2)), min_size=1, max_size=50))
def test_a_bucket_never_gives_more_than_rate_and_burst(steps: list[tuple[int, float]]) -> None:
    bucket, now, taken = TokenBucket(100.0, 25.0, 0.0), 0.0, 0
    for count, pause in steps:
        now += pause
        now += bucket.take(count, now)
        taken += count
        assert taken <= 25 + 100 * now + 1e-6


async def test_a_write_holds_a_place_and_gives_it_back() -> None:
    faulty = FaultyStore(MemoryStore(), [Fault(verb="write", hang=True), Fault(verb="put_part", error=Unavailable("no"))])
    store = LimitStore(faulty, SystemClock(), max_concurrent=1)
    stuck = asyncio.create_task(store.write("k", BytesBody(b"x")))
    waiting = asyncio.create_task(store.write("k", BytesBody(b"y")))
    await asyncio.sleep(0.01)
    assert faulty.calls["write"] == 1
    stuck.cancel()
    assert (await waiting).size == 1
    upload = await store.multipart().begin("k")
    with pytest.raises(Unavailable):
        await store.multipart().put(upload, 1, BytesBody(b"x"))
    await store.delete("k")


async def test_bytes_sent_are_paced_apart_from_bytes_drawn() -> None:
    clock, memory = SteppedClock(), MemoryStore()
    store = LimitStore(memory, clock, max_concurrent=1, bytes_per_s=1000, sleep=clock.sleep)
    await store.write("k", PiecesBody([b"x" * 500] * 4, 2000))
    assert sum(clock.slept) == pytest.approx(1.75)
    assert memory.body("k") == b"x" * 2000
