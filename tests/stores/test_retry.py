"""Retries: only what could not be known, within bounds, never after a byte was handed on."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, DeadlineExceeded, NotFound, Throttled, Unavailable, VersionChanged
from headrace.stores.contract import StoreContract
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_writing import WritingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.retry import Circuit, RetrySettings, RetryStore, decide
from headrace.stores.store import Store
from support.flaky import FlakyStore, SteppedClock

SETTINGS = RetrySettings()


class TestRetryStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return RetryStore(self.memory, SystemClock())

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


def retried(inner: Store, clock: SteppedClock, *, deadline_s: float = 30.0, settings: RetrySettings = SETTINGS) -> RetryStore:
    return RetryStore(inner, clock, deadline_s=deadline_s, settings=settings, sleep=clock.sleep, jitter=lambda: 0.5)


@settings(deadline=None)
@given(
    tried=st.integers(1, 10),
    left_s=st.floats(0, 60),
    jitter=st.floats(0, 1, exclude_max=True),
    wish_s=st.none() | st.floats(0, 100),
)
def test_a_wait_fits_the_time_left_and_obeys_the_store(tried: int, left_s: float, jitter: float, wish_s: float | None) -> None:
    wait_s = decide(Unavailable("x", retry_after_s=wish_s), tried=tried, left_s=left_s, jitter=jitter, settings=SETTINGS)
    if wait_s is None:
        assert tried >= SETTINGS.tries or (wish_s or 0) + jitter * SETTINGS.longest_s >= left_s or left_s < SETTINGS.longest_s
    else:
        assert tried < SETTINGS.tries
        assert (wish_s or 0) <= wait_s < left_s
        assert wait_s - (wish_s or 0) <= min(SETTINGS.longest_s, SETTINGS.base_s * 2 ** (tried - 1)) + 1e-9


async def test_what_could_not_be_known_is_asked_again() -> None:
    inner, clock = FlakyStore(Unavailable("1"), Unavailable("2")), SteppedClock()
    inner.memory.put("k", b"body")
    assert (await retried(inner, clock).info("k")).size == 4
    assert inner.calls == 3
    assert clock.slept == [0.05, 0.1]


async def test_tries_are_bounded() -> None:
    inner, clock = FlakyStore(*(Unavailable(str(n)) for n in range(9))), SteppedClock()
    with pytest.raises(Unavailable, match="3"):
        await retried(inner, clock).info("k")
    assert inner.calls == 4


@pytest.mark.parametrize("error", [NotFound("x"), AccessDenied("x"), VersionChanged("x")])
async def test_what_is_known_is_not_asked_again(error: Exception) -> None:
    inner, clock = FlakyStore(error), SteppedClock()
    with pytest.raises(type(error)):
        await retried(inner, clock).info("k")
    assert inner.calls == 1


async def test_retry_after_is_obeyed_or_the_call_given_up() -> None:
    inner, clock = FlakyStore(Throttled("slow down", retry_after_s=7.0)), SteppedClock()
    inner.memory.put("k", b"body")
    store = retried(inner, clock)
    await store.info("k")
    assert clock.slept == [7.05]
    inner.errors = [Throttled("slow down", retry_after_s=31.0)]
    with pytest.raises(Throttled):
        await store.info("k")
    assert clock.slept == [7.05]


async def test_a_store_that_says_nothing_ends_at_the_deadline() -> None:
    inner = FlakyStore()
    inner.hang = True
    store = RetryStore(inner, SystemClock(), deadline_s=0.05)
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await store.info("k")
    assert inner.calls == 1


async def test_a_body_that_breaks_at_once_is_asked_for_again_in_the_same_version() -> None:
    inner, clock = FlakyStore(), SteppedClock()
    info = inner.memory.put("k", b"body")
    inner.broken_bodies, inner.body_error = 1, Unavailable("cut")
    assert await read_all(retried(inner, clock), "k") == b"body"
    assert inner.versions == [None, info.version]


async def test_a_body_that_breaks_later_is_an_error() -> None:
    inner, clock = FlakyStore(), SteppedClock()
    inner.memory.put("k", b"x" * 1_000_000)
    inner.broken_bodies, inner.break_after, inner.body_error = 1, 2, Unavailable("cut")
    with pytest.raises(Unavailable, match="cut"):
        await read_all(retried(inner, clock), "k")
    assert inner.calls == 1


async def test_a_store_that_is_away_is_probed_once_a_second_and_found_again_at_once() -> None:
    inner, clock = FlakyStore(), SteppedClock()
    inner.memory.put("k", b"body")
    inner.errors = [Unavailable("away") for _ in range(1000)]
    store = retried(inner, clock)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.info("k")
    assert store.is_away
    asked = inner.calls
    started = clock.now
    while clock.now < started + 10:
        with pytest.raises(Unavailable, match=r"^away$|every 1 s; the last failure: away$"):
            await store.info("k")
        clock.now += 0.01
    assert 9 <= inner.calls - asked <= 11
    inner.errors.clear()
    recovered = clock.now
    while store.is_away:
        try:
            await store.info("k")
        except Unavailable:
            clock.now += 0.01
    assert clock.now - recovered < 5


async def test_a_store_that_only_throttles_is_spared_like_one_that_is_away() -> None:
    inner, clock = FlakyStore(*(Throttled("slow") for _ in range(40))), SteppedClock()
    store = retried(inner, clock)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await store.info("k")
    assert store.is_away


async def test_absence_does_not_open_the_circuit() -> None:
    inner, clock = FlakyStore(), SteppedClock()
    store = retried(inner, clock)
    for _ in range(10):
        with pytest.raises(NotFound):
            await store.info("k")
    assert not store.is_away


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60))
def test_an_open_circuit_never_lets_two_probes_through_in_a_second(steps: list[tuple[bool, float]]) -> None:
    circuit, now, last_probe = Circuit(3, 1.0), 0.0, -10.0
    for answers, pause in steps:
        now += pause
        was_open = circuit.is_open
        if not circuit.may_ask(now):
            assert was_open
            continue
        if was_open:
            assert now - last_probe >= 1.0
            last_probe = now
        if answers:
            circuit.answered()
            assert not circuit.is_open
        else:
            circuit.failed(now)
            if not was_open and circuit.is_open:
                last_probe = now


async def test_a_cancelled_caller_is_not_retried() -> None:
    inner = FlakyStore()
    inner.hang = True
    task = asyncio.create_task(RetryStore(inner, SystemClock()).info("k"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.calls <= 1
