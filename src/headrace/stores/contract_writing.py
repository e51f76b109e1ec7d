"""The suite that every Store which takes writes passes, beside `StoreContract`: subclass `WritingContract` with the same hooks.

What a store cannot do is said by the flags of `WritingHooks`, with the reason beside them. Nothing that is promised without a
flag can be left out; a condition that a store does not take must be refused, never ignored.
"""
# ruff: noqa: S101, S324 - a test suite asserts, and MD5 is what ETags are made of

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from headrace.model.errors import (
    ConditionFailed,
    Conflict,
    CorruptData,
    HeadraceError,
    InvalidKey,
    NotFound,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.writing import ALWAYS, Attributes, BytesBody, Condition
from headrace.stores.contract import LOOK_ALIKES, ODD_KEYS
from headrace.stores.contract_changing import ChangingContract
from headrace.stores.contract_hooks import body_of, read_all
from headrace.stores.contract_multipart import MultipartContract
from headrace.stores.contract_tools import (
    ATTRIBUTES,
    CONDITIONS,
    PIECE,
    BoomError,
    PiecesBody,
    WritingHooks,
    agree,
    condition_of,
)
from headrace.stores.store import Store
from headrace.stores.writes import FULL_OBJECT, TYPE


class WriteContract(WritingHooks):
    """Objects are made and put in each other's place, whole or not at all."""

    @pytest.mark.parametrize("data", [b"", b"x", PIECE], ids=["empty", "one byte", "larger"])
    async def test_what_is_written_is_there_at_once_for_every_verb(self, store: Store, data: bytes) -> None:
        with pytest.raises(NotFound):
            await store.info("d/a.bin")
        told = await store.write("d/a.bin", BytesBody(data))
        info = await agree(store, "d/a.bin", data)
        assert (told.key, told.size, told.etag, told.version) == (info.key, info.size, info.etag, info.version)
        if self.etag_is_md5:
            assert info.etag == hashlib.md5(data).hexdigest()
        if data:
            assert await read_all(store, "d/a.bin", ByteRange(0, 1), version=told.version) == data[:1]

    async def test_an_overwrite_takes_the_place_of_the_object(self, store: Store) -> None:
        first = await store.write("a", BytesBody(b"one"))
        second = await store.write("a", BytesBody(b"two"))
        third = await store.write("a", BytesBody(b"longer than both"))
        assert len({first.version, second.version, third.version}) == 3
        await agree(store, "a", b"longer than both")
        assert [entry.key for entry in (await store.list()).entries] == ["a"]

    @pytest.mark.parametrize("known", [True, False], ids=["known length", "unknown length"])
    async def test_a_large_body_in_many_pieces_is_kept(self, store: Store, known: bool) -> None:
        pieces = [PIECE[: 1 + 7919 * turn % len(PIECE)] for turn in range(200)]
        data = b"".join(pieces)
        varied = [(bytes, bytearray, memoryview)[turn % 3](piece) for turn, piece in enumerate(pieces)]
        varied.insert(5, b"")
        await store.write("large", PiecesBody(varied, len(data) if known else None))
        info = await agree(store, "large", data)
        if self.etag_is_md5:
            assert info.etag == hashlib.md5(data).hexdigest()

    async def test_an_empty_body_of_unknown_length_is_an_empty_object(self, store: Store) -> None:
        await store.write("empty", PiecesBody([]))
        await agree(store, "empty", b"")

    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS.keys())
    async def test_an_odd_key_is_written_exactly_or_refused(self, store: Store, key: str) -> None:
        if not self.written([key]):
            with pytest.raises(InvalidKey):
                await store.write(key, BytesBody(b"odd"))
            assert (await store.list()).entries == ()
            return
        assert (await store.write(key, BytesBody(b"odd"))).key == key
        await agree(store, key, b"odd")
        assert [entry.key for entry in (await store.list()).entries] == [key]
        await store.delete(key)
        assert (await store.list()).entries == ()

    @pytest.mark.parametrize("pair", LOOK_ALIKES, ids=[f"{a} and {b}" for a, b in LOOK_ALIKES])
    async def test_keys_that_look_alike_are_written_apart(self, store: Store, pair: tuple[str, str]) -> None:
        kept = self.written(pair)
        for key in kept:
            await store.write(key, BytesBody(key.encode()))
        for key in kept:
            await agree(store, key, key.encode())
        assert [entry.key for entry in (await store.list()).entries] == sorted(kept, key=str.encode)

    async def test_a_key_may_go_on_where_another_ends(self, store: Store) -> None:
        kept = self.written(["a/b/c", "a", "a/b", "a/", "a/b/c/d"])
        for key in kept:
            await store.write(key, BytesBody(key.encode()))
        for key in kept:
            assert await read_all(store, key) == key.encode()
        assert [entry.key for entry in (await store.list()).entries] == sorted(kept, key=str.encode)
        while kept:
            await store.delete(kept.pop(len(kept) // 2))
            assert [entry.key for entry in (await store.list()).entries] == sorted(kept, key=str.encode)
            for key in kept:
                assert await read_all(store, key) == key.encode()

    @pytest.mark.parametrize("key", ["k" * 1024, "é" * 512, "d/" * 512, "a/" + "n" * 300], ids=["1024", "é", "d/", "name of 300"])
    async def test_a_long_key_is_written_exactly_or_refused(self, store: Store, key: str) -> None:
        if self.written([key]):
            await store.write(key, BytesBody(b"long"))
            await agree(store, key, b"long")
        else:
            with pytest.raises(InvalidKey):
                await store.write(key, BytesBody(b"long"))

    @pytest.mark.parametrize("key", ["", "x" * 1025, "a\ud800b"], ids=["empty", "1025", "surrogate"])
    async def test_a_key_that_no_store_holds_is_not_written(self, store: Store, key: str) -> None:
        with pytest.raises(InvalidKey):
            await store.write(key, BytesBody(b"x"))
        with pytest.raises(InvalidKey):
            await store.delete(key)
        assert (await store.list()).entries == ()

    async def test_attributes_come_back(self, store: Store) -> None:
        if not self.keeps_attributes:
            pytest.skip("this store keeps bytes alone")
        told = await store.write("a.csv", BytesBody(b"x"), ATTRIBUTES)
        reading = await store.read("a.csv")
        await reading.aclose()
        for info in (told, await store.info("a.csv"), reading.info):
            assert info.content_type == ATTRIBUTES.content_type
            assert sorted(info.headers) == list(ATTRIBUTES.headers)
            assert sorted(info.metadata) == list(ATTRIBUTES.metadata)
            assert info.tag_count == (len(ATTRIBUTES.tags) if self.keeps_tags else 0)
        if self.keeps_tags:
            assert await store.tags("a.csv") == ATTRIBUTES.tags

    async def test_an_overwrite_keeps_nothing_of_the_old_attributes(self, store: Store) -> None:
        await store.write("a", BytesBody(b"x"), ATTRIBUTES)
        await store.write("a", BytesBody(b"x"), Attributes(metadata=(("new", "1"),)))
        info = await store.info("a")
        if self.keeps_attributes:
            assert info.metadata == (("new", "1"),)
        assert "max-age" not in str(info.headers)
        assert info.content_type != ATTRIBUTES.content_type
        assert await store.tags("a") == ()

    @pytest.mark.parametrize("there", [False, True], ids=["none before", "one before"])
    @pytest.mark.parametrize("known", [True, False], ids=["known length", "unknown length"])
    async def test_a_body_that_fails_changes_nothing(self, store: Store, there: bool, known: bool) -> None:
        if there:
            await store.write("d/a", BytesBody(b"old"), ATTRIBUTES)
        for count in (0, 1, 80):
            with pytest.raises(BoomError):
                await store.write("d/a", PiecesBody([PIECE] * count, len(PIECE) * 90 if known else None, error=BoomError()))
        await self._nothing_changed(store, "d/a", there=there)

    @pytest.mark.parametrize("there", [False, True], ids=["none before", "one before"])
    @pytest.mark.parametrize("wrong", [-1, 1, 100_000], ids=["one more than said", "one missing", "many missing"])
    async def test_a_body_of_another_length_than_it_says_changes_nothing(self, store: Store, there: bool, wrong: int) -> None:
        if there:
            await store.write("d/a", BytesBody(b"old"), ATTRIBUTES)
        with pytest.raises(CorruptData):
            await store.write("d/a", PiecesBody([PIECE], len(PIECE) + wrong))
        await self._nothing_changed(store, "d/a", there=there)

    async def test_a_write_that_is_given_up_changes_nothing(self, store: Store) -> None:
        await store.write("d/a", BytesBody(b"old"), ATTRIBUTES)
        begun, never = asyncio.Event(), asyncio.Event()

        class Stuck(PiecesBody):
            async def __aiter__(self) -> AsyncIterator[Buffer]:
                yield PIECE
                begun.set()
                await never.wait()

        task = asyncio.create_task(store.write("d/a", Stuck([], len(PIECE) * 2)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self._nothing_changed(store, "d/a", there=True)

    async def test_checksums_of_the_body_are_kept(self, store: Store) -> None:
        if not self.keeps_checksums:
            pytest.skip("this store keeps no checksums")
        crc32 = ("crc32", "A7TCbQ==")
        told = await store.write("a", BytesBody(b"hello world!", checksums=(crc32,)))
        assert crc32 in told.checksums
        info = await store.info("a")
        assert crc32 in info.checksums
        assert dict(info.checksums).get(TYPE, FULL_OBJECT) == FULL_OBJECT
        await store.write("a", BytesBody(b"other"))
        assert crc32 not in (await store.info("a")).checksums

    async def test_a_reader_keeps_the_version_that_it_began_with(self, store: Store) -> None:
        old, new = b"1" * 6_000_000, b"2" * 6_000_000
        await store.write("a", BytesBody(old))
        reading = await store.read("a")
        pieces = aiter(reading)
        seen = [bytes(await anext(pieces))]
        await store.write("a", BytesBody(new))
        try:
            seen += [bytes(piece) async for piece in pieces]
        except HeadraceError:
            assert set(b"".join(seen)) == {ord("1")}
        else:
            assert b"".join(seen) == old
        finally:
            await reading.aclose()
        await agree(store, "a", new)

    async def test_writers_at_once_leave_one_of_their_bodies(self, store: Store) -> None:
        bodies = [bytes([turn]) * (200_000 + turn) for turn in range(12)]
        answers = await asyncio.gather(*(store.write("d/a", BytesBody(body)) for body in bodies), return_exceptions=True)
        assert any(isinstance(answer, ObjectInfo) for answer in answers)
        assert all(isinstance(answer, (ObjectInfo, Conflict)) for answer in answers), answers
        left = await read_all(store, "d/a")
        assert left in bodies
        await agree(store, "d/a", left)
        assert list(await self.left_behind()) == []

    async def _nothing_changed(self, store: Store, key: str, *, there: bool) -> None:
        if there:
            info = await agree(store, key, b"old")
            if self.keeps_attributes:
                assert info.content_type == ATTRIBUTES.content_type
        else:
            with pytest.raises(NotFound):
                await store.info(key)
        assert [entry.key for entry in (await store.list()).entries] == [key] * there
        assert list(await self.left_behind()) == []


class ConditionContract(WritingHooks):
    """A condition and its write are one step."""

    @pytest.mark.parametrize("there", [False, True], ids=["none", "one"])
    @pytest.mark.parametrize("names", CONDITIONS, ids=lambda names: f"{names[0] or '-'},{names[1] or '-'}")
    async def test_a_write_obeys_its_condition(self, store: Store, there: bool, names: tuple[str, str]) -> None:
        before = await store.write("a", BytesBody(b"old")) if there else None
        condition = condition_of(names, before.etag if before else "")
        if not self.takes("write", condition):
            expected: type[Exception] | None = Unsupported
        elif condition.holds(before):
            expected = None
        else:
            expected = ConditionFailed if there else NotFound
        if expected is None:
            await store.write("a", BytesBody(b"new"), condition=condition)
            await agree(store, "a", b"new")
            return
        with pytest.raises(expected):
            await store.write("a", BytesBody(b"new"), condition=condition)
        if before is None:
            assert (await store.list()).entries == ()
        else:
            assert (await agree(store, "a", b"old")).version == before.version
        assert list(await self.left_behind()) == []

    @pytest.mark.parametrize("there", [False, True], ids=["made", "replaced"])
    async def test_of_sixteen_conditional_writers_one_wins(self, store: Store, there: bool) -> None:
        condition = Condition(if_none_match="*")
        if there:
            condition = Condition(if_match=(await store.write("d/a", BytesBody(b"base"))).etag)
        if not self.settles_races or not self.takes("write", condition):
            pytest.skip("this store cannot settle a race of conditional writers")
        bodies = [f"writer {turn}".encode() * 1000 for turn in range(16)]
        writes = (store.write("d/a", BytesBody(body), condition=condition) for body in bodies)
        answers = await asyncio.gather(*writes, return_exceptions=True)
        winners = [body for body, answer in zip(bodies, answers, strict=True) if isinstance(answer, ObjectInfo)]
        lost = [answer for answer in answers if not isinstance(answer, ObjectInfo)]
        assert len(winners) == 1, answers
        assert all(isinstance(answer, (ConditionFailed, Conflict)) for answer in lost), lost
        await agree(store, "d/a", winners[0])

    async def test_a_counter_kept_by_conditional_writes_loses_no_step(self, store: Store) -> None:
        first = await store.write("count", BytesBody(b"0"))
        if not self.settles_races or not self.takes("write", Condition(if_match=first.etag)):
            pytest.skip("this store cannot settle a race of conditional writers")

        async def count_up() -> None:
            while True:
                try:
                    reading = await store.read("count")
                    number = int(await body_of(reading)) + 1
                    await store.write("count", BytesBody(str(number).encode()), condition=Condition(if_match=reading.info.etag))
                except (ConditionFailed, Conflict, VersionChanged):
                    continue
                return

        await asyncio.wait_for(asyncio.gather(*(count_up() for _ in range(8))), 60)
        assert await read_all(store, "count") == b"8"

    async def test_no_condition_is_always_met(self, store: Store) -> None:
        await store.write("a", BytesBody(b"1"), condition=ALWAYS)
        await store.write("a", BytesBody(b"2"), condition=Condition())
        await agree(store, "a", b"2")


class WritingContract(WriteContract, ConditionContract, ChangingContract, MultipartContract):
    """Everything that a Store which takes writes promises; stores without multipart uploads leave out the last."""
