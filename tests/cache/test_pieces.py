"""Pages of a listing, asked for several at once: the same objects as one after the other, whatever was guessed."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.pieces import Page, pages
from headrace.model.errors import Unavailable
from headrace.model.objects import ObjectInfo, Version

KEYS = st.lists(st.text("abc", min_size=1, max_size=3), unique=True, max_size=30).map(sorted)


class Listed:
    """A listing in pages of a few keys; the later a page was asked for, the sooner it may come."""

    def __init__(self, keys: list[str], page: int, waits: list[int]) -> None:
        self.infos = [ObjectInfo(key, 1, Version(key)) for key in keys]
        self.page = page
        self.waits = waits
        self.open = self.asked = 0

    async def ask(self, after: str, _most: int) -> Page:
        self.asked += 1
        self.open += 1
        try:
            for _ in range(self.waits[self.asked % len(self.waits)]):
                await asyncio.sleep(0)
        finally:
            self.open -= 1
        start = bisect_right(self.infos, after, key=lambda info: info.key)
        some = self.infos[start : start + self.page]
        return Page(some, some[-1].key if start + self.page < len(self.infos) else None)


@given(KEYS, KEYS, st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_any_guesses_give_every_object_once_and_in_order(
    keys: list[str], guesses: list[str], page: int, at_once: int, waits: list[int]
) -> None:
    async def run() -> None:
        listed = Listed(keys, page, waits)
        found: list[str] = []
        told = ""
        async for infos, after in pages(listed.ask, guesses, at_once):
            found += [info.key for info in infos]
            assert all(told < info.key and (after is None or info.key <= after) for info in infos)
            assert after is None or after > told
            told = after or told
        assert found == keys
        assert listed.open == 0
        assert listed.asked <= len(keys) // page + len(guesses) + at_once + 1

    asyncio.run(run())


@given(KEYS, st.integers(1, 4))
def test_without_guesses_each_page_is_asked_for_once(keys: list[str], page: int) -> None:
    async def run() -> int:
        listed = Listed(keys, page, [0])
        assert [info.key async for infos, _ in pages(listed.ask, (), 4) for info in infos] == keys
        return listed.asked

    assert asyncio.run(run()) == max(1, -(-len(keys) // page))


async def test_who_leaves_early_leaves_no_question_open() -> None:
    listed = Listed([f"{number:02d}" for number in range(40)], 10, [9, 1, 9])
    async with aclosing(pages(listed.ask, ["09", "19", "29"], 3)) as drawn:
        async for infos, after in drawn:
            assert (len(infos), after, listed.open > 0) == (10, "09", True)
            break
    assert listed.open == 0


async def test_what_goes_wrong_is_raised_where_its_page_would_come() -> None:
    async def ask(after: str, _most: int) -> Page:
        key = {"": "a", "a": "b"}.get(after)
        if key is None:
            raise Unavailable("gone away")
        return Page([ObjectInfo(key, 1, Version("v"))], key)

    seen = []
    with pytest.raises(Unavailable, match="gone away"):
        async for infos, _ in pages(ask, ["a", "b", "c"], 4):
            seen += infos
    assert [info.key for info in seen] == ["a", "b"]
