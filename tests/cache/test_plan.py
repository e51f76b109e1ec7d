"""Which fills a read needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.layout import CHUNK_PAGES, Geometry, Kind
from headrace.cache.plan import RUN_PAGES, Run, Streak, first_ask, passes_through, run_at

PAGE = 65536
GEOMETRY = Geometry(PAGE)
LARGE = GEOMETRY.chunk * 3


@given(st.integers(0, 2), st.integers(0, 63), st.data())
def test_a_run_begins_at_the_first_absent_page_and_stays_in_its_chunk(chunk: int, offset: int, data: st.DataObject) -> None:
    first = chunk * CHUNK_PAGES + offset
    last = data.draw(st.integers(first + 1, (chunk + 1) * CHUNK_PAGES))
    present = data.draw(st.lists(st.booleans(), min_size=last - first, max_size=last - first))
    run = run_at(GEOMETRY, LARGE, first, last, present)
    if all(present):
        assert run is None
        return
    assert run is not None
    assert run.first == first + present.index(False)
    assert run.first < run.last <= (chunk + 1) * CHUNK_PAGES
    if run.kind is Kind.PAGE:
        assert run.last - run.first <= RUN_PAGES
        assert not any(present[run.first - first : run.last - first])
        assert run.last <= last


def test_a_whole_cold_chunk_is_one_fill() -> None:
    assert run_at(GEOMETRY, LARGE, 64, 128, [False] * 64) == Run(Kind.CHUNK, 64, 128)


def test_small_objects_are_one_segment() -> None:
    assert run_at(GEOMETRY, 5, 0, 1, [False]) == Run(Kind.WHOLE, 0, 1)
    assert run_at(GEOMETRY, 3 * PAGE, 0, 3, [False] * 3) == Run(Kind.WHOLE, 0, 3)


@given(st.integers(0, LARGE), st.one_of(st.none(), st.integers(1, LARGE)))
def test_the_first_ask_is_aligned_bounded_and_holds_the_start(start: int, length: int | None) -> None:
    low, high = first_ask(GEOMETRY, start, None if length is None else start + length)
    assert low % PAGE == 0
    assert low <= start < high <= low + (1 << 20)
    assert low // GEOMETRY.chunk == (high - 1) // GEOMETRY.chunk


def test_streaks_grow_while_reads_follow_each_other_and_end_with_a_jump() -> None:
    streak, position, windows = Streak(), 0, []
    for _ in range(8):
        streak = streak.after(position, position + 100, 4 << 20)
        windows.append(streak.ahead_bytes)
        position += 100
    assert windows[0] == 0
    assert windows == sorted(windows)
    assert windows[-1] == 4 << 20
    assert streak.after(0, 10, 4 << 20).ahead_bytes == 0


def test_only_reads_much_smaller_than_large_pages_pass_through() -> None:
    assert not passes_through(GEOMETRY, 0, 100)
    assert passes_through(Geometry(1 << 20), 0, 4096)
    assert not passes_through(Geometry(1 << 20), 0, 1 << 20)
