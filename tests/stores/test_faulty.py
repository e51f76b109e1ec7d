import asyncio
import time

import pytest

from headrace.model.errors import Throttled, Unavailable
from headrace.model.objects import ByteRange
from headrace.stores.contract import StoreContract, body_of, read_all
from headrace.stores.contract_writing import WritingContract
from headrace.stores.faulty import Fault, FaultyStore, random_faults
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store

BODY = bytes(i % 251 for i in range(100_000))


def store_with(*faults: Fault) -> FaultyStore:
    inner = MemoryStore()
    inner.put("a", BODY)
    inner.put("other", b"fine")
    return FaultyStore(inner, faults)


class TestFaultyStoreWithoutFaults(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return FaultyStore(self.memory)

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


async def test_an_error_strikes_on_the_named_call_only() -> None:
    store = store_with(Fault(on=2, error=Throttled("slow down")))
    assert await read_all(store, "a") == BODY
    with pytest.raises(Throttled):
        await store.read("a")
    assert await read_all(store, "a") == BODY
    assert len(store.injected) == 1
    assert store.calls["read"] == 3


async def test_an_error_may_last_and_be_healed() -> None:
    store = store_with(Fault(verb="*", times=-1, error=Unavailable("down")))
    for _ in range(3):
        with pytest.raises(Unavailable):
            await store.info("a")
        with pytest.raises(Unavailable):
            await store.list()
    store.heal()
    assert (await store.info("a")).size == len(BODY)


async def test_only_keys_that_match_are_struck() -> None:
    store = store_with(Fault(key="a", times=-1, error=Unavailable("down")))
    assert await read_all(store, "other") == b"fine"
    with pytest.raises(Unavailable):
        await store.read("a")


@pytest.mark.parametrize("place", [0, 1, 16_383, 16_384, 50_000, 99_999])
async def test_a_body_is_cut_at_the_byte(place: int) -> None:
    store = store_with(Fault(cut_at=place))
    got = []
    reading = await store.read("a")
    with pytest.raises(Unavailable):
        async for piece in reading:
            got.append(bytes(piece))
    assert b"".join(got) == BODY[:place]


async def test_a_silent_cut_looks_like_an_end() -> None:
    assert await body_of(await store_with(Fault(silent_cut_at=70_000)).read("a")) == BODY[:70_000]


async def test_wrong_bytes_keep_the_length() -> None:
    got = await read_all(store_with(Fault(wrong_from=20_001)), "a")
    assert len(got) == len(BODY)
    assert got[:20_001] == BODY[:20_001]
    assert all(a != b for a, b in zip(got[20_001:], BODY[20_001:], strict=True))


async def test_extra_bytes_follow() -> None:
    assert await read_all(store_with(Fault(extra=b"more")), "a") == BODY + b"more"


async def test_a_range_may_be_ignored() -> None:
    reading = await store_with(Fault(whole_object=True)).read("a", ByteRange(10, 20))
    assert reading.range == ByteRange(0, len(BODY))
    assert await body_of(reading) == BODY


async def test_version_and_size_may_be_claimed_wrongly() -> None:
    store = store_with(Fault(verb="*", times=-1, wrong_version="etag:no", wrong_size=3))
    info = await store.info("a")
    reading = await store.read("a")
    await reading.aclose()
    for claimed in (info, reading.info):
        assert (claimed.version.token, claimed.etag, claimed.size) == ("etag:no", "no", 3)


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(hang_at=20_000)])
async def test_a_hang_lasts_until_it_is_cancelled(fault: Fault) -> None:
    store = store_with(fault)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await read_all(store, "a")
    assert await read_all(store, "a") == BODY


async def test_a_slow_body_takes_its_time_and_is_right() -> None:
    started = time.monotonic()
    assert await read_all(store_with(Fault(delay_s=0.01, piece_delay_s=0.005)), "a") == BODY
    assert time.monotonic() - started >= 0.04


def test_a_seed_gives_the_same_schedule() -> None:
    first, second, other = (random_faults(seed, calls=200) for seed in (1, 1, 2))
    assert [str(fault) for fault in first] == [str(fault) for fault in second]
    assert [str(fault) for fault in first] != [str(fault) for fault in other]
    assert 10 < len(first) < 80
