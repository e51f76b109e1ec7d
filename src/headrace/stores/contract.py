"""The suite that every Store passes. Subclass `StoreContract` in a test module and fill in the hooks.

Needs pytest and pytest-asyncio (`asyncio_mode = "auto"`). What a store cannot do is said by
overriding `kept` or a flag, with the reason beside it; no behaviour is skipped in silence.
"""
# ruff: noqa: S101, S311 - a test suite asserts, and its random keys are no secrets

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from functools import partial
from itertools import pairwise

import pytest

from headrace.model.errors import (
    AccessDenied,
    HeadraceError,
    InvalidKey,
    InvalidRange,
    NotFound,
    Unavailable,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.stores.contract_hooks import StoreHooks, body_of, read_all
from headrace.stores.contract_listing import ListingContract
from headrace.stores.store import Store

ODD_KEYS = {
    "empty segment": "a//b",
    "leading slash": "/a",
    "trailing slash": "dir/",
    "two trailing slashes": "dir//",
    "only a slash": "/",
    "dot": ".",
    "dot dot": "..",
    "dot segment": "a/./b",
    "dot dot segment": "a/../b",
    "leading dot dot": "../a",
    "spaces": " a b ",
    "plus": "a+b",
    "percent": "100%",
    "encoded slash": "a%2Fb",
    "encoded dots": "%2e%2e%2fa",
    "twice encoded": "a%252Fb",
    "question mark": "a?b=c&d",
    "hash": "a#b",
    "back-slash": "a\\b",
    "semicolon": "a;b=c",
    "quotes": "a\"b'c",
    "angle brackets": "<a>&amp;",
    "non-ASCII": "Grüße/日本語.txt",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "astral": "a/\U0001f600",
    "asterisk and colon": "a*b:c|d",
    "tilde": "~a",
    "control character": "a\x01b",
    "newline": "a\nb",
}
LOOK_ALIKES = (
    ("a//b", "a/b"),
    ("dir/", "dir"),
    ("x/./y", "x/y"),
    ("p/../q", "q"),
    ("p%2Fq", "p/q"),
    ("m+n", "m n"),
    ("caf\u00e9", "cafe\u0301"),
    ("Case", "case"),
    ("lead", "/lead"),
    ("tail ", "tail"),
)
SIZE = 1000
BODY = bytes(i % 251 for i in range(SIZE))
LARGE = bytes(range(256)) * 12_301


class KeysContract(StoreHooks):
    """Keys are kept exactly, or refused."""

    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
    async def test_an_odd_key_is_kept_exactly_or_refused(self, store: Store, key: str) -> None:
        if not self.kept([key]):
            with pytest.raises((InvalidKey, NotFound)):
                await store.info(key)
            with pytest.raises((InvalidKey, NotFound)):
                await store.read(key)
            return
        await self.put_behind(key, b"odd")
        assert (await store.info(key)).key == key
        assert await read_all(store, key) == b"odd"
        assert [entry.key for entry in (await store.list()).entries] == [key]

    @pytest.mark.parametrize("pair", LOOK_ALIKES, ids=[f"{a} and {b}" for a, b in LOOK_ALIKES])
    async def test_keys_that_look_alike_are_different_objects(self, store: Store, pair: tuple[str, str]) -> None:
        kept = await self.put_all(pair)
        for key in pair:
            if key in kept:
                assert await read_all(store, key) == key.encode()
            else:
                with pytest.raises((InvalidKey, NotFound)):
                    await store.info(key)
        assert [entry.key for entry in (await store.list()).entries] == sorted(kept, key=str.encode)

    async def test_a_key_of_1024_bytes_is_kept(self, store: Store) -> None:
        key = "/".join(("é" * 99 + "ab",) * 5) + "/" + "x" * 19
        assert len(key.encode()) == 1024
        assert await self.put_all([key]) == [key]
        assert await read_all(store, key) == key.encode()

    @pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "a\ud800b"], ids=["empty", "1025", "1026", "surrogate"])
    async def test_a_key_that_no_store_holds_is_invalid(self, store: Store, key: str) -> None:
        with pytest.raises(InvalidKey):
            await store.info(key)
        with pytest.raises(InvalidKey):
            await store.read(key)


class InfoContract(StoreHooks):
    """What is said of an object agrees, whoever is asked."""

    async def test_absent_is_not_found_by_every_verb(self, store: Store) -> None:
        await self.put_behind("present/below", b"x")
        above = ("present",) if self.hides_directories else ()
        for key in ("absent", *above, "present/below/deeper", "present/belo"):
            with pytest.raises(NotFound):
                await store.info(key)
            with pytest.raises(NotFound):
                await store.read(key)
            with pytest.raises(NotFound):
                await store.tags(key)

    async def test_info_read_and_listing_agree(self, store: Store) -> None:
        before = time.time()
        await self.put_behind("a.txt", BODY)
        info = await store.info("a.txt")
        reading = await store.read("a.txt", ByteRange(1, 2))
        await reading.aclose()
        (listed,) = (await store.list()).entries
        assert isinstance(listed, ObjectInfo)
        assert info.size == SIZE
        assert abs(info.modified_s - before) < 120
        for other in (reading.info, listed):
            assert (other.key, other.size, other.version, other.etag) == (info.key, info.size, info.version, info.etag)
            assert abs(other.modified_s - info.modified_s) < 1
        assert '"' not in info.etag
        if self.knows_content_type:
            assert info.content_type.startswith("text/plain")
            assert reading.info.content_type == info.content_type

    async def test_the_version_is_stable_until_the_bytes_change(self, store: Store) -> None:
        await self.put_behind("a", b"one")
        first = await store.info("a")
        assert await store.info("a") == first
        await self.put_behind("a", b"two")
        assert (await store.info("a")).version != first.version

    async def test_an_object_without_tags_has_none(self, store: Store) -> None:
        await self.put_behind("a", b"x")
        assert await store.tags("a") == ()

    async def test_a_deleted_object_is_not_found(self, store: Store) -> None:
        await self.put_behind("a", b"x")
        await store.info("a")
        await self.delete_behind("a")
        with pytest.raises(NotFound):
            await store.info("a")
        assert (await store.list()).entries == ()


class ReadContract(StoreHooks):
    """Ranges and bodies."""

    async def test_a_whole_object_is_read(self, store: Store) -> None:
        await self.put_behind("a", LARGE)
        reading = await store.read("a")
        assert reading.range == ByteRange(0, len(LARGE))
        assert await body_of(reading) == LARGE

    async def test_an_empty_object_has_no_bytes_and_no_ranges(self, store: Store) -> None:
        await self.put_behind("empty", b"")
        assert (await store.info("empty")).size == 0
        assert await read_all(store, "empty") == b""
        for byte_range in (ByteRange(0, 1), ByteRange(5, 9)):
            with pytest.raises(InvalidRange) as caught:
                await store.read("empty", byte_range)
            assert caught.value.size == 0

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, 1), (0, SIZE), (5, 10), (SIZE - 1, SIZE), (SIZE - 1, SIZE + 100), (0, 10**12), (1, SIZE - 1)],
    )
    async def test_a_range_is_read_and_cut_at_the_end(self, store: Store, start: int, end: int) -> None:
        await self.put_behind("a", BODY)
        reading = await store.read("a", ByteRange(start, end))
        assert reading.range == ByteRange(start, min(end, SIZE))
        assert reading.info.size == SIZE
        assert await body_of(reading) == BODY[start:end]

    @pytest.mark.parametrize(("start", "end"), [(SIZE, SIZE + 1), (SIZE + 1, 10**12), (10**15, 10**15 + 1)])
    async def test_a_range_behind_the_end_is_invalid(self, store: Store, start: int, end: int) -> None:
        await self.put_behind("a", BODY)
        with pytest.raises(InvalidRange) as caught:
            await store.read("a", ByteRange(start, end))
        assert caught.value.size == SIZE

    async def test_ranges_of_a_large_object_join_to_the_whole(self, store: Store) -> None:
        await self.put_behind("a", LARGE)
        cuts = [0, 1, 65_536, 65_537, 1_048_576, 2_000_003, len(LARGE)]
        ranges = [ByteRange(a, b) for a, b in pairwise(cuts)]
        parts = await asyncio.gather(*(read_all(store, "a", part) for part in ranges))
        assert b"".join(parts) == LARGE

    async def test_buffers_may_be_kept(self, store: Store) -> None:
        await self.put_behind("a", LARGE)
        reading = await store.read("a")
        buffers = [piece async for piece in reading]
        await read_all(store, "a")
        assert b"".join(buffers) == LARGE

    async def test_readings_given_up_free_what_they_held(self, store: Store) -> None:
        await self.put_behind("a", LARGE)
        for _ in range(100):
            reading = await store.read("a")
            async for _piece in reading:
                break
            await reading.aclose()
            await reading.aclose()
            await (await store.read("a")).aclose()
        assert await asyncio.wait_for(read_all(store, "a", ByteRange(3, 9)), 10) == LARGE[3:9]

    async def test_many_calls_at_once_do_not_mix(self, store: Store) -> None:
        await self.put_behind("a", LARGE)
        await self.put_behind("b", BODY)
        calls = [read_all(store, "a", ByteRange(i * 7919, i * 7919 + 4096)) for i in range(40)]
        others = [read_all(store, "b") for _ in range(20)]
        answers, bodies, listings = await asyncio.gather(
            asyncio.gather(*calls), asyncio.gather(*others), asyncio.gather(*(store.list() for _ in range(10)))
        )
        assert answers == [LARGE[i * 7919 : i * 7919 + 4096] for i in range(40)]
        assert set(bodies) == {BODY}
        assert all([entry.key for entry in listing.entries] == ["a", "b"] for listing in listings)

    async def test_peek_answers_rightly_or_not_at_all(self, store: Store) -> None:
        await self.put_behind("a", BODY)
        peeked = store.peek("a", ByteRange(2, 5))
        assert peeked is None or await body_of(peeked) == BODY[2:5]
        with contextlib.suppress(NotFound):
            assert store.peek("absent", None) is None


class VersionContract(StoreHooks):
    """A body is of one version, and of the one that was asked for."""

    async def test_the_pinned_version_is_read(self, store: Store) -> None:
        await self.put_behind("a", BODY)
        version = (await store.info("a")).version
        assert await read_all(store, "a", version=version) == BODY
        assert await read_all(store, "a", ByteRange(2, 4), version=version) == BODY[2:4]

    @pytest.mark.parametrize("byte_range", [None, ByteRange(10, 20)], ids=["whole", "range"])
    async def test_an_overwritten_version_is_never_answered_by_another(self, store: Store, byte_range: ByteRange | None) -> None:
        await self.put_behind("a", b"1" * SIZE)
        version = (await store.info("a")).version
        await self.put_behind("a", b"2" * SIZE)
        with contextlib.suppress(VersionChanged):
            assert set(await read_all(store, "a", byte_range, version=version)) == {ord("1")}
        assert set(await read_all(store, "a", byte_range)) == {ord("2")}

    async def test_a_version_that_never_was_is_changed(self, store: Store) -> None:
        await self.put_behind("a", BODY)
        for token in ("etag:0123456789abcdef0123456789abcdef", "id:12345", "stat:1-1000-1", "nonsense", ""):
            with pytest.raises(VersionChanged):
                await read_all(store, "a", version=Version(token))

    async def test_a_pinned_version_of_a_deleted_object_is_an_error(self, store: Store) -> None:
        await self.put_behind("a", BODY)
        version = (await store.info("a")).version
        await self.delete_behind("a")
        with pytest.raises((NotFound, VersionChanged)):
            await read_all(store, "a", version=version)

    @pytest.mark.parametrize("when", ["before the first piece", "after the first piece"])
    async def test_an_overwrite_while_reading_is_never_a_blend(self, store: Store, when: str) -> None:
        old, new = b"1" * 6_000_000, b"2" * 6_000_000
        await self.put_behind("a", old)
        old_version = (await store.info("a")).version
        reading = await store.read("a")
        assert reading.info.version == old_version
        pieces = []
        try:
            iterator = aiter(reading)
            if when == "after the first piece":
                pieces.append(await anext(iterator))
            await self.put_behind("a", new)
            pieces.extend([piece async for piece in iterator])
        except (VersionChanged, Unavailable):
            assert set(b"".join(pieces)) <= {ord("1")}
        else:
            assert b"".join(pieces) == old
        finally:
            await reading.aclose()
        assert await read_all(store, "a") == new

    async def test_a_delete_while_reading_is_never_a_short_body(self, store: Store) -> None:
        await self.put_behind("a", LARGE)
        reading = await store.read("a")
        await self.delete_behind("a")
        with contextlib.suppress(HeadraceError):
            assert await body_of(reading) == LARGE


class FailureContract(StoreHooks):
    """What could not be learnt is never taken for absent, and no foreign error comes through."""

    async def test_unreachable_is_unavailable_never_absent_or_empty(self) -> None:
        store = await self.make_unreachable_store()
        if store is None:
            pytest.skip("this kind of store is always there")
        for verb in (store.info, store.read, store.list, store.tags):
            with pytest.raises(Unavailable):
                await asyncio.wait_for(verb("a"), 30)
        await store.close()

    async def test_refused_is_access_denied_never_absent(self) -> None:
        store = await self.make_denied_store()
        if store is None:
            pytest.skip("this kind of store cannot refuse")
        for verb in (store.info, store.read, store.list):
            with pytest.raises(AccessDenied):
                await verb("a")
        await store.close()

    async def test_only_headrace_errors_come_out(self, store: Store) -> None:
        await self.put_behind("a", BODY)
        texts = ["\0", "a\0b", "\x7f", "\ud800", "x" * 3000, "a/b", "//", "..", "%00", "\r\nx: y", "a" * 255 + "/" + "b" * 256]
        for text in texts:
            for verb in (store.info, store.read, store.tags, store.list, partial(store.list, after="a")):
                try:
                    await verb(text)
                except HeadraceError as error:
                    assert "\n" not in str(error)
            try:
                await store.list(after=text)
            except InvalidKey:
                assert text == "\ud800"

    async def test_random_reads_equal_slices(self, store: Store) -> None:
        await self.put_behind("a", LARGE)
        draw = random.Random(20)
        for _ in range(30):
            start = draw.randrange(len(LARGE))
            end = start + draw.randrange(1, 200_000)
            assert await read_all(store, "a", ByteRange(start, end)) == LARGE[start:end]

    async def test_close_may_be_called_twice(self, store: Store) -> None:
        await store.list()
        await store.close()
        await store.close()


class StoreContract(KeysContract, InfoContract, ReadContract, VersionContract, ListingContract, FailureContract):
    """Everything that a Store promises."""
