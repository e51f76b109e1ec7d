from __future__ import annotations

import asyncio

import pytest

from headrace.model.clock import Clock
from headrace.testing.clock import ManualClock


def test_both_clocks_move_only_when_told() -> None:
    clock = ManualClock(monotonic=5.0, time=100.0)
    as_clock: Clock = clock
    assert (as_clock.monotonic(), as_clock.time()) == (5.0, 100.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.time()) == (7.5, 102.5)


def test_a_jump_of_the_wall_clock_leaves_the_monotonic_one() -> None:
    clock = ManualClock(monotonic=5.0, time=100.0)
    clock.jump(-3600)
    assert (clock.monotonic(), clock.time()) == (5.0, -3500.0)


def test_the_monotonic_clock_refuses_to_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        ManualClock().advance(-1)


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock = ManualClock()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    tasks = [asyncio.create_task(sleeper(*each)) for each in (("late", 3.0), ("soon", 1.0), ("mid", 2.0))]
    await asyncio.sleep(0)
    assert clock.sleepers == 3
    await clock.run(2.5)
    assert woken == ["soon", "mid"]
    await clock.run(1.0)
    await asyncio.gather(*tasks)
    assert woken == ["soon", "mid", "late"]


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.sleepers == 0
    clock.advance(2.0)
