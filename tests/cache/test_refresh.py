"""What is read often is asked for before its time is over: readers never wait, the store is spared, nothing is asked in vain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache import refresh
from headrace.cache.refresh import Refresher, is_often, soon
from headrace.model.errors import Unavailable
from headrace.model.events import BackgroundError, Refreshed
from headrace.model.objects import ObjectInfo
from headrace.model.reading import FileSlice, Served
from headrace.stores.faulty import FaultyStore
from headrace.stores.memory import MemoryStore
from headrace.testing.clock import ManualClock
from support.caching import Rig, body_of, until

FRESHNESS_S = 30.0
LATE_S = 29.5  # behind every jitter


@given(st.floats(min_value=0.001, max_value=1e7), st.floats(min_value=0.0, max_value=1.0, exclude_max=True))
def test_soon_is_shortly_before_the_end(bound_s: float, jitter: float) -> None:
    lead_s = bound_s - soon(bound_s, jitter)
    assert 0.09 * min(bound_s, 200.0) <= lead_s <= min(0.301 * bound_s, 60.1)


def test_what_is_never_asked_for_again_has_no_soon_and_answers_of_one_moment_are_spread() -> None:
    assert soon(float("inf"), 0.5) == float("inf")
    assert soon(0.0, 0.5) == 0.0
    ages = [soon(30.0, number / 10) for number in range(10)]
    assert max(ages) - min(ages) > 5.0
    assert len(set(ages)) == 10


def test_often_is_said_once_for_each_answer() -> None:
    assert [is_often(reads, late_before=False) for reads in range(1, 6)] == [False, True, False, False, False]
    assert [is_often(reads, late_before=True) for reads in range(1, 6)] == [True, False, False, False, False]


class Asked(FaultyStore):
    """Counts questions, and can make them wait or fail."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.infos: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None

    async def info(self, key: str) -> ObjectInfo:
        self.infos.append(key)
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return await super().info(key)


async def warm(tmp_path: Path, *, freshness_s: float = FRESHNESS_S, key: str = "k") -> tuple[Rig, MemoryStore, Asked]:
    memory = MemoryStore()
    memory.put(key, b"body")
    asked = Asked(memory)
    rig = Rig(tmp_path, asked, freshness_s=freshness_s)
    await body_of(await rig.store.read(key))
    await rig.settled()
    return rig, memory, asked


def refreshes(rig: Rig) -> list[Refreshed]:
    return [event for event in rig.events if isinstance(event, Refreshed)]


async def test_a_hot_reader_never_waits(tmp_path: Path) -> None:
    rig, memory, asked = await warm(tmp_path)
    for period in range(1, 5):
        rig.clock.advance(LATE_S)
        for _ in range(50):
            reading = rig.store.peek("k", None)
            assert reading is not None
            assert reading.served is Served.HIT
        await until(lambda wanted=period: len(refreshes(rig)) == wanted)
        assert asked.infos == ["k"] * period
    assert refreshes(rig) == [Refreshed("/m")] * 4
    memory.put("k", b"changed")
    rig.clock.advance(LATE_S)
    assert rig.store.peek("k", None) is not None
    await until(lambda: len(refreshes(rig)) == 5)
    assert await body_of(await rig.store.read("k")) == b"changed"
    await rig.store.close()
    await rig.pages.close()


async def test_what_is_read_no_more_costs_nothing_and_what_is_read_seldom_is_not_asked_for_ahead(tmp_path: Path) -> None:
    rig, _, asked = await warm(tmp_path)
    assert rig.store.peek("k", None) is not None
    rig.clock.advance(LATE_S)
    assert rig.store.peek("k", None) is not None
    await asyncio.sleep(0)
    rig.clock.advance(1000.0)
    assert rig.store.peek("k", None) is None
    assert asked.infos == []
    await rig.store.info("k")
    rig.clock.advance(LATE_S)
    await rig.store.info("k")
    await until(lambda: len(refreshes(rig)) == 1)
    assert asked.infos == ["k", "k"], "read late in two periods running: that is often"
    await rig.store.close()
    await rig.pages.close()


@pytest.mark.parametrize(
    ("key", "freshness_s"),
    [("k", 0.0), ("t/_delta_log/_last_checkpoint", 30.0), ("k", float("inf"))],
    ids=["verify", "pointer", "immutable"],
)
async def test_never_for_what_is_verified_or_points_or_stays(tmp_path: Path, key: str, freshness_s: float) -> None:
    rig, _, asked = await warm(tmp_path, key=key, freshness_s=freshness_s)
    for _ in range(5):
        rig.clock.advance(LATE_S)
        await body_of(rig.store.peek(key, None) or await rig.store.read(key))
    assert refreshes(rig) == []
    assert len(asked.infos) == (0 if freshness_s == float("inf") else 5)
    await rig.store.close()
    await rig.pages.close()


async def test_a_failure_costs_the_answer_nothing_and_is_counted(tmp_path: Path) -> None:
    rig, _, asked = await warm(tmp_path)
    asked.failure = Unavailable("away")
    rig.clock.advance(LATE_S)
    for _ in range(10):
        assert rig.store.peek("k", None) is not None
    await until(lambda: refreshes(rig) == [Refreshed("/m", "Unavailable")])
    assert rig.store.peek("k", None) is not None
    assert asked.infos == ["k"]
    rig.clock.advance(1.0)
    with pytest.raises(Unavailable):
        await rig.store.read("k")
    await rig.store.close()
    await rig.pages.close()


async def test_a_reader_whose_time_is_over_joins_the_question_under_way(tmp_path: Path) -> None:
    rig, _, asked = await warm(tmp_path)
    asked.open.clear()
    rig.clock.advance(LATE_S)
    for _ in range(2):
        assert rig.store.peek("k", None) is not None
    await until(lambda: asked.infos == ["k"])
    rig.clock.advance(1.0)
    assert rig.store.peek("k", None) is None
    reading = asyncio.create_task(rig.store.read("k"))
    await asyncio.sleep(0)
    asked.open.set()
    assert await body_of(await reading) == b"body"
    assert asked.infos == ["k"]
    await rig.store.close()
    await rig.pages.close()


async def test_who_reads_on_by_himself_comes_back_in_time(tmp_path: Path) -> None:
    memory = MemoryStore()
    memory.put("k", bytes(300_000))
    rig = Rig(tmp_path, memory)
    await body_of(await rig.store.read("k"))
    await rig.settled()

    def lease_s() -> float:
        reading = rig.store.peek("k", None)
        assert reading is not None and reading.ready is not None
        (piece,) = {piece.until for piece in reading.ready if isinstance(piece, FileSlice)}
        return piece - rig.clock.monotonic()

    assert 0.69 * FRESHNESS_S <= lease_s() <= 0.91 * FRESHNESS_S
    rig.clock.advance(LATE_S)
    assert lease_s() == pytest.approx(FRESHNESS_S - LATE_S)
    await rig.store.close()
    await rig.pages.close()


async def test_questions_are_bounded_and_outlive_what_nobody_foresaw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "RATE_PER_S", 1e9)
    events: list[object] = []
    running = most = 0
    asked: list[str] = []
    go = asyncio.Event()

    async def ask(key: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        asked.append(key)
        if key == "k7":
            raise RuntimeError("nobody foresaw this")

    refresher = Refresher(ask, mount="/m", now=ManualClock().monotonic, emit=events.append)
    for number in range(5000):
        refresher.wish(f"k{number}")
    await until(lambda: running == refresh.AT_ONCE)
    go.set()
    await until(lambda: not refresher._tasks)
    assert most == refresh.AT_ONCE
    assert sorted(asked) == sorted(f"k{number}" for number in range(refresh.WAITING_MAX))
    assert [event for event in events if isinstance(event, BackgroundError)] == [
        BackgroundError("refresh of /m", "RuntimeError: nobody foresaw this")
    ]
    refresher.wish("again")
    await until(lambda: asked[-1] == "again")
    await refresher.close()


async def test_only_so_many_are_asked_a_second() -> None:
    asked: list[str] = []
    waits: list[float] = []
    clock = ManualClock()

    async def ask(key: str) -> None:
        asked.append(key)

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    refresher = Refresher(ask, mount="/m", now=clock.monotonic, emit=lambda _: None, sleep=sleep)
    began_s = clock.monotonic()
    for number in range(1000):
        refresher.wish(f"{number}")
    await until(lambda: len(asked) == 1000)
    assert clock.monotonic() - began_s == pytest.approx(1000 / refresh.RATE_PER_S - 1, rel=0.01)
    assert len(waits) == pytest.approx(900, abs=1)
    await refresher.close()
