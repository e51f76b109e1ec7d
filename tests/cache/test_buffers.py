"""Memory that is used again is never memory that somebody still looks at."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.buffers import Buffers

KIB, MIB = 1 << 10, 1 << 20
LENGTHS = (64 * KIB, 300 * KIB, 512 * KIB, MIB - 5, MIB)


async def test_memory_that_nobody_looks_at_is_used_again() -> None:
    buffers = Buffers(keep_bytes=2 * MIB)
    first = buffers.take(MIB)
    first[:4] = b"mark"
    del first
    assert bytes(buffers.take(MIB - 100)[:4]) == b"mark"
    assert len(buffers) == 1
    buffers.close()


@pytest.mark.parametrize("look", ["a slice", "a slice of a slice", "a sent copy"])
async def test_memory_that_somebody_looks_at_is_not(look: str) -> None:
    buffers = Buffers(keep_bytes=2 * MIB)
    first = buffers.take(MIB)
    first[:4] = b"mark"
    view: object = {"a slice": first[:4], "a slice of a slice": first[:100][:4], "a sent copy": memoryview(first)[:4]}[look]
    del first
    buffers.take(MIB)[:4] = b"else"
    assert bytes(view) == b"mark"  # type: ignore[call-overload]
    buffers.close()


@given(st.lists(st.tuples(st.sampled_from(LENGTHS), st.booleans(), st.integers(0, 255)), max_size=40))
async def test_every_view_keeps_its_bytes_whatever_is_taken_after_it(steps: list[tuple[int, bool, int]]) -> None:
    buffers = Buffers(keep_bytes=3 * MIB)
    held: list[tuple[memoryview, int]] = []
    for length, keep, value in steps:
        taken = buffers.take(length)
        assert len(taken) == length
        taken[:] = bytes([value]) * length
        if keep:
            held.append((taken[1:-1], value))
        elif held:
            held.pop(value % len(held))
        del taken
        for view, said in held:
            assert view[0] == said
            assert view[-1] == said
    held.clear()
    assert sum(len(one) for one in buffers._kept) <= 3 * MIB
    buffers.close()


async def test_what_is_not_asked_for_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.cache.buffers._IDLE_S", 0.05)
    buffers = Buffers(keep_bytes=2 * MIB)
    view = buffers.take(MIB)
    view[:4] = b"mark"
    async with asyncio.timeout(10):
        while len(buffers):
            await asyncio.sleep(0.01)
    assert bytes(view[:4]) == b"mark"
