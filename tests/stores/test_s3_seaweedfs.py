"""Listing SeaweedFS in key order, page by page, without seeing all of it for each page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.model.errors import Unavailable
from headrace.model.objects import CommonPrefix, Entry, ObjectInfo, Version
from headrace.stores.contract_listing import expected, listed
from headrace.stores.keys import PAGE_KEYS
from headrace.stores.s3 import S3Store
from headrace.stores.s3_list_xml import ListPage
from headrace.stores.s3_seaweedfs import DirectoryWalk, OutOfOrder, Question
from support.s3_stores import s3_store
from support.servers import S3Server

NASTY = ("a", "a-", "a/", "a.b", "a/b", "a0", "a-/x", "a!/y", "a/b-/c", "a/b/c", "a/b/d", "a/b.c/d", "a\u00e9", "a/\U0001f600")
NAMES = st.text(st.sampled_from("ab-.!0é"), min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TEXTS = st.one_of(st.just(""), KEYS, st.text(st.sampled_from("ab-./!0é\U0010ffff\\"), max_size=6))


class Filer:
    """Keys as SeaweedFS sends them, as seen on the real server: directories in the order of names, cut at `max_keys`.

    `start_after` skips a name with all that lies below it, unless it ends with a slash or goes on below it.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = sorted(keys, key=lambda key: key.split("/"))
        self.asked: list[Question] = []

    async def ask(self, question: Question) -> ListPage:
        self.asked.append(question)
        found: dict[str, int] = {}
        for position, key in enumerate(self.keys):
            skipped = position < int(question.token or 0) or (question.start_after and not behind(key, question.start_after))
            if key.startswith(question.prefix) and not skipped:
                cut = key.find("/", len(question.prefix)) if question.delimiter else -1
                found[key if cut < 0 else key[: cut + 1]] = position + 1
        page = list(found)[: question.max_keys]
        entries = [self._entry(text, question) for text in page]
        entries.sort(key=lambda entry: isinstance(entry, CommonPrefix))
        truncated = len(found) > len(page)
        return ListPage(tuple(entries), truncated, str(found[page[-1]]) if truncated else "", by_directory=True)

    def _entry(self, text: str, question: Question) -> Entry:
        is_prefix = bool(question.delimiter) and text.endswith("/") and text != question.prefix
        return CommonPrefix(text) if is_prefix else info(text)


def info(key: str) -> ObjectInfo:
    return ObjectInfo(key, 1, Version("etag:x"))


def behind(key: str, start: str) -> bool:
    ours, theirs = key.split("/"), start.split("/")
    for position, name in enumerate(theirs):
        if position >= len(ours) or ours[position] != name:
            return position < len(ours) and ours[position] > name
    return False


async def walked(filer: Filer, prefix: str, delimiter: str, after: str, limit: int) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    while True:
        page = await DirectoryWalk(filer.ask, prefix, delimiter, after, limit).listing()
        assert len(page.entries) <= limit
        found += [(entry.key, isinstance(entry, CommonPrefix)) for entry in page.entries]
        if page.after is None:
            return found
        assert page.after > after
        after = page.after


@given(st.sets(KEYS, max_size=40), TEXTS, st.sampled_from(["", "/"]), TEXTS, st.integers(1, 12))
@settings(max_examples=600)
@example({"d", "d!", "d-/x", "d/x/y", "d/x-", "d.b"}, "", "", "d", 1)
@example({"a", "a-/b", "a/b"}, "a", "/", "a-", 2)
@example({"d/x", "d.b/y", *(f"d.b{letter}" for letter in "acdefghijklmnopqrstuvw"), "d.b-/z"}, "", "", "d.bx", 2)
@example({"d/x", "d.b/y", *(f"d.b{letter}" for letter in "acdefghijklmnopqrstuvw"), "d.b-/z"}, "", "/", "d.b", 2)
async def test_any_listing_is_that_of_the_sorted_keys(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    found = await walked(Filer(sorted(keys)), prefix, delimiter, after, limit)
    assert found == expected(sorted(keys), prefix, delimiter, after)


@pytest.mark.parametrize(
    "key_of",
    [
        lambda number: f"part-{number:05}.parquet",
        lambda number: f"d{number // 10:04}/k{number % 10}",
        lambda number: f"one/in/each/{number:05}/file",
        lambda number: f"year={number // 5000}/month={number // 500 % 10}/k{number:05}",
    ],
    ids=["flat", "tens", "ones", "deep"],
)
async def test_a_full_listing_costs_a_bounded_number_of_requests_for_each_page(key_of) -> None:  # type: ignore[no-untyped-def]
    filer = Filer([key_of(number) for number in range(10_000)])
    assert len(await walked(filer, "", "", "", 1000)) == 10_000
    assert len(filer.asked) <= 10 * 20
    assert sum(question.max_keys for question in filer.asked) <= 10 * 8_000


@pytest.mark.parametrize(
    "name", ["{:05}", "part-{:05}.parquet", "day=2026-11-27/{:05}.csv", "a.b-{:05}", "log.{:05}", "é{:05}.é"]
)
async def test_pages_of_files_alone_cost_a_request_each(name: str) -> None:
    filer = Filer([name.format(number) for number in range(5 * PAGE_KEYS)])
    prefix = name.rpartition("/")[0] + "/" if "/" in name else ""
    assert len(await walked(filer, prefix, "", "", PAGE_KEYS)) == 5 * PAGE_KEYS
    in_the_end = "-" in name or "." in name[:5]  # whether there is a directory called as what all names begin with
    assert len(filer.asked) <= 5 + 2 * in_the_end
    # The server lists a directory that is not there by going through all names that begin like it.
    assert all(question.prefix == prefix or question.delimiter for question in filer.asked), (
        "a directory that is not there is dear"
    )


async def test_many_names_of_one_stem_cost_three_requests_a_page() -> None:
    words = sorted("".join(letters) for letters in product("abcdefghij", repeat=4))
    filer = Filer([f"data.{word}" for word in words[: 5 * PAGE_KEYS]])
    assert len(await walked(filer, "", "", "", PAGE_KEYS)) == 5 * PAGE_KEYS
    assert len(filer.asked) <= 3 * 5


async def test_a_directory_in_another_order_is_refused() -> None:
    async def ask(question: Question) -> ListPage:
        return ListPage((info("b"), info("a")), truncated=False, token="")

    with pytest.raises(OutOfOrder):
        await DirectoryWalk(ask, "", "", "", 10).listing()


async def test_a_listing_that_does_not_get_ahead_is_unavailable() -> None:
    async def ask(question: Question) -> ListPage:
        return ListPage((info("a"),), truncated=True, token="same")

    with pytest.raises(Unavailable, match="get ahead"):
        await DirectoryWalk(ask, "", "", "", 10).listing()


@pytest.fixture(scope="module")
def nasty(seaweedfs_server: S3Server) -> tuple[S3Server, list[str]]:
    """A bucket of keys that directories and S3 sort differently, and which of them the server keeps, in order."""
    bucket = "nasty"
    seaweedfs_server.make_bucket(bucket)
    # Longest first: what is a file already cannot become a directory, but a directory may become an object too.
    for key in sorted([*NASTY, *(f"a-/many/{number}" for number in range(30))], key=len, reverse=True):
        seaweedfs_server.put(bucket, key, b"" if key.endswith("/") else key.encode())
    found: list[str] = []
    for page in seaweedfs_server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket):
        found += [entry["Key"] for entry in page["Contents"]]
    assert {"a", "a-", "a.b", "a/b", "a0", "a/b/c", "a-/x"} <= set(found)
    return seaweedfs_server, sorted(found, key=str.encode)


@pytest.mark.servers
@given(st.sampled_from(["", "a", "a/", "a-", "a/b", "a-/", "b"]), st.sampled_from(["", "/", "-"]), TEXTS, st.integers(1, 9))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_real_server_lists_nasty_names_in_key_order(
    nasty: tuple[S3Server, list[str]], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    server, keys = nasty

    async def run() -> list[tuple[str, bool]]:
        store = s3_store(server, "nasty")
        try:
            return await listed(store, prefix, delimiter=delimiter, after=after, limit=limit)
        finally:
            await store.close()

    assert asyncio.run(run()) == expected(keys, prefix, delimiter, after)


@pytest.mark.servers
async def test_pages_of_a_large_bucket_do_not_see_all_of_it_each(
    seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, gate = "large-flat", asyncio.Semaphore(16)
    await asyncio.to_thread(seaweedfs_server.make_bucket, bucket)

    async def put(key: str) -> None:
        async with gate:
            await asyncio.to_thread(seaweedfs_server.put, bucket, key, b"x")

    keys = [f"part-{number:05}.csv" for number in range(1200)]
    await asyncio.gather(*map(put, keys))
    listed_entries = 0
    original = S3Store._list_page

    async def counted(self: S3Store, query: Sequence[tuple[bytes, bytes]]) -> ListPage:
        nonlocal listed_entries
        page = await original(self, query)
        listed_entries += len(page.entries)
        return page

    monkeypatch.setattr(S3Store, "_list_page", counted)
    store = s3_store(seaweedfs_server, bucket)
    assert [key for key, _ in await listed(store, limit=100)] == keys
    await store.close()
    assert listed_entries <= 2 * len(keys)
