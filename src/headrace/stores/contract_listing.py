"""The part of the contract suite that is about listings."""
# ruff: noqa: S101, S311 - a test suite asserts, and its random keys are no secrets

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from headrace.model.objects import CommonPrefix
from headrace.stores.contract_hooks import StoreHooks
from headrace.stores.keys import rolled_up
from headrace.stores.store import Store

TREE = (
    "a-b",
    "a.txt",
    "a/b-c",
    "a/b/c",
    "a/b/d",
    "a/c",
    "a0",
    "b--c--d",
    "b--c--e",
    "b--x",
    "b-c",
    "Ünder/x",
    "z/\uff5e",
    "z/\U0001f600",
    "zz",
)
QUERIES = (
    ("", ""),
    ("", "/"),
    ("a", "/"),
    ("a/", "/"),
    ("a/b", "/"),
    ("a/b", ""),
    ("a/b/", ""),
    ("b", "--"),
    ("b--", "--"),
    ("", "-"),
    ("", "a"),
    ("", "Ü"),
    ("z", "/\U0001f600"),
    ("zz", ""),
    ("nothing", "/"),
    ("a/c/", "/"),
)
AFTERS = ("a", "a-b", "a-", "a/", "a/b", "a/b-c", "a/b/", "a/b/c", "a/bb", "a/~", "b--c--", "b-", "z/\uffff", "zzz", "\U0010ffff")


def expected(keys: Sequence[str], prefix: str, delimiter: str = "", after: str = "") -> list[tuple[str, bool]]:
    """What a listing of these keys holds, said in the simplest way: (text, whether it is a CommonPrefix)."""
    found = {}
    for key in keys:
        if key.startswith(prefix):
            common = rolled_up(key, prefix, delimiter)
            found[common or key] = common is not None
    return [(key, found[key]) for key in sorted(found, key=str.encode) if key.encode() > after.encode()]


async def listed(
    store: Store, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000
) -> list[tuple[str, bool]]:
    """All pages of a listing; checks that each obeys `limit` and moves on."""
    entries: list[tuple[str, bool]] = []
    while True:
        page = await store.list(prefix, delimiter=delimiter, after=after, limit=limit)
        assert len(page.entries) <= limit
        entries += [(entry.key, isinstance(entry, CommonPrefix)) for entry in page.entries]
        if page.after is None:
            return entries
        assert page.after.encode() > after.encode(), "the continuation must move on"
        after = page.after


class ListingContract(StoreHooks):
    """Order, prefixes, delimiters and paging."""

    async def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        for prefix in ("", "a", "a/"):
            page = await store.list(prefix, delimiter="/")
            assert (page.entries, page.after) == ((), None)

    async def test_order_is_that_of_utf8_bytes(self, store: Store) -> None:
        keys = await self.put_all(["z\U0001f600", "z\uff5e", "zé", "ze", "z", "Z", "z/a", "z-a", "z.a", "z0", "é"])
        assert [key for key, _ in await listed(store)] == sorted(keys, key=str.encode)

    async def test_every_prefix_and_delimiter_lists_what_it_should(self, store: Store) -> None:
        keys = await self.put_all(TREE)
        for prefix, delimiter in QUERIES:
            assert await listed(store, prefix, delimiter=delimiter) == expected(keys, prefix, delimiter), (prefix, delimiter)

    @pytest.mark.parametrize("after", AFTERS)
    async def test_after_may_be_any_text(self, store: Store, after: str) -> None:
        keys = await self.put_all(TREE)
        for prefix, delimiter in (("", ""), ("", "/"), ("a/", "/"), ("b", "--")):
            wanted = expected(keys, prefix, delimiter, after)
            assert await listed(store, prefix, delimiter=delimiter, after=after) == wanted, (prefix, delimiter)

    @pytest.mark.parametrize(("prefix", "delimiter"), [("", ""), ("", "/"), ("a/", "/"), ("b", "--")])
    async def test_paging_with_any_limit_lists_each_once(self, store: Store, prefix: str, delimiter: str) -> None:
        keys = await self.put_all(TREE)
        wanted = expected(keys, prefix, delimiter)
        for limit in range(1, len(wanted) + 2):
            assert await listed(store, prefix, delimiter=delimiter, limit=limit) == wanted, limit

    async def test_a_page_that_ends_with_a_common_prefix_goes_on_behind_it(self, store: Store) -> None:
        await self.put_all(["a/1", "a/2", "a/3", "b"])
        page = await store.list(delimiter="/", limit=1)
        assert page.entries == (CommonPrefix("a/"),)
        assert page.after is not None
        following = await store.list(delimiter="/", after=page.after, limit=1)
        assert [entry.key for entry in following.entries] == ["b"]

    async def test_the_last_page_says_that_nothing_follows(self, store: Store) -> None:
        await self.put_all(["a", "b", "c"])
        assert (await store.list(limit=1000)).after is None
        assert (await store.list("c", limit=1000)).after is None

    async def test_keys_that_stay_are_listed_once_while_others_come_and_go(self, store: Store) -> None:
        staying = await self.put_all([f"k{i:03}" for i in range(0, 100, 5)])
        await self.put_all([f"k{i:03}x" for i in range(0, 100, 10)])
        seen: list[str] = []
        after, turn = "", 0
        while True:
            page = await store.list("k", after=after, limit=3)
            seen += [entry.key for entry in page.entries]
            if page.after is None:
                break
            after = page.after
            await self.put_all([f"k{turn:03}n", f"k{99 - turn:03}n"])
            if turn < 100 and turn % 10 == 0:
                await self.delete_behind(f"k{turn:03}x")
            turn += 5
        assert len(seen) == len(set(seen))
        assert seen == sorted(seen)
        assert set(staying) <= set(seen)

    async def test_more_keys_than_one_page_of_the_store_are_listed(self, store: Store) -> None:
        keys = await self.put_all([f"many/{i:05}" for i in range(1_050)])
        assert [key for key, _ in await listed(store, "many/", limit=1000)] == keys
        assert [key for key, _ in await listed(store, "many/", limit=5000)] == keys
        assert await listed(store, "", delimiter="/") == [("many/", True)]

    async def test_random_keys_are_listed_like_the_model(self, store: Store) -> None:
        draw = random.Random(7)
        letters = ["a", "b", "/", "-", "é", "\U0001f600", "\uff5e"]
        words = {"".join(draw.choices(letters, k=draw.randrange(1, 6))) for _ in range(60)}
        keys = await self.put_all(sorted(words))
        for _ in range(60):
            prefix, after = ("".join(draw.choices(letters, k=draw.randrange(0, 3))) for _ in range(2))
            delimiter = draw.choice(["", "/", "/", "-", "é", "a/"])
            limit = draw.choice([1, 2, 3, 7, 1000])
            answer = await listed(store, prefix, delimiter=delimiter, after=after, limit=limit)
            assert answer == expected(keys, prefix, delimiter, after), (prefix, delimiter, after, limit)

    async def test_listings_at_once_do_not_mix(self, store: Store) -> None:
        keys = await self.put_all(TREE)
        answers = await asyncio.gather(*(listed(store, prefix, delimiter=mark, limit=2) for prefix, mark in QUERIES))
        assert answers == [expected(keys, prefix, mark) for prefix, mark in QUERIES]
