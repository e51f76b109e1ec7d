"""The part of the suite for stores that take writes that is about multipart uploads."""
# ruff: noqa: S101, S324 - a test suite asserts, and MD5 is what ETags are made of

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence

import pytest

from headrace.model.checksums import Algorithm, checksum
from headrace.model.errors import (
    ConditionFailed,
    Conflict,
    CorruptData,
    InvalidKey,
    InvalidPart,
    InvalidRange,
    NoSuchUpload,
    NotFound,
    PartTooSmall,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import BytesBody, Condition
from headrace.stores.contract_tools import ATTRIBUTES, PART_CHECKSUMS, BoomError, PiecesBody, WritingHooks, agree
from headrace.stores.store import Store
from headrace.stores.writes import COMPOSITE, TYPE

_UNKNOWN = 987_654


class UploadHooks(WritingHooks):
    """Parts that are as small as the store takes them."""

    def part_body(self, number: int) -> bytes:
        """A body for part `number`, of another length than its neighbours'."""
        return bytes([number % 251]) * (max(self.min_part_bytes, 1000) + number)

    async def put_parts(self, store: Store, upload: Upload, numbers: Sequence[int]) -> tuple[Part, ...]:
        """Put parts with `part_body`s."""
        uploads = store.multipart()
        return tuple([await uploads.put(upload, number, BytesBody(self.part_body(number))) for number in numbers])

    async def uploads_of(self, store: Store, prefix: str = "", limit: int = 1000) -> list[Upload]:
        """All pages of the list of uploads."""
        found: list[Upload] = []
        after: Upload | None = None
        while True:
            page = await store.multipart().list(prefix, after=after, limit=limit)
            assert len(page.uploads) <= limit
            found += page.uploads
            if page.after is None:
                return found
            after = page.after


class CompletingContract(UploadHooks):
    """Parts are put and become an object, whole and at once."""

    async def test_an_upload_is_invisible_until_it_is_complete(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("d/a", ATTRIBUTES)
        parts = await self.put_parts(store, upload, [1, 2])
        assert [part.number for part in parts] == [1, 2]
        with pytest.raises(NotFound):
            await store.info("d/a")
        assert (await store.list()).entries == ()
        told = await uploads.complete(upload, parts)
        data = self.part_body(1) + self.part_body(2)
        info = await agree(store, "d/a", data)
        assert (told.key, told.etag, told.version) == (info.key, info.etag, info.version)
        if self.keeps_attributes:
            assert info.content_type == ATTRIBUTES.content_type
            assert sorted(info.metadata) == list(ATTRIBUTES.metadata)
        if self.keeps_tags:
            assert await store.tags("d/a") == ATTRIBUTES.tags
        assert await self.uploads_of(store) == []
        assert list(await self.left_behind()) == []

    async def test_etags_are_made_of_the_parts_md5s(self, store: Store) -> None:
        if not self.etag_is_md5:
            pytest.skip("this store makes its ETags otherwise")
        upload = await store.multipart().begin("a")
        parts = await self.put_parts(store, upload, [1, 2, 3])
        digests = [hashlib.md5(self.part_body(number)).digest() for number in (1, 2, 3)]
        assert [part.etag for part in parts] == [digest.hex() for digest in digests]
        info = await store.multipart().complete(upload, parts)
        assert info.etag == f"{hashlib.md5(b''.join(digests)).hexdigest()}-3"

    async def test_parts_may_come_in_any_order_at_once_and_with_gaps(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        numbers = [9, 2, 10_000, 5]
        parts = await asyncio.gather(*(uploads.put(upload, n, BytesBody(self.part_body(n))) for n in numbers))
        ordered = tuple(sorted(parts, key=lambda part: part.number))
        await uploads.complete(upload, ordered)
        await agree(store, "a", b"".join([self.part_body(number) for number in sorted(numbers)]))

    async def test_one_small_part_is_enough(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        part = await uploads.put(upload, 1, PiecesBody([b"sm", b"all"], 5))
        await uploads.complete(upload, (part,))
        await agree(store, "a", b"small")

    async def test_a_part_put_again_takes_the_place_of_the_first(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        (first,) = await self.put_parts(store, upload, [1])
        second = await uploads.put(upload, 1, BytesBody(b"second"))
        with pytest.raises(InvalidPart):
            await uploads.complete(upload, (first,))
        await uploads.complete(upload, (second,))
        await agree(store, "a", b"second")

    async def test_a_part_whose_body_fails_leaves_the_earlier_one(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        first = await uploads.put(upload, 1, BytesBody(b"first"))
        with pytest.raises(BoomError):
            await uploads.put(upload, 1, PiecesBody([b"xyz"] * 100, 400, error=BoomError()))
        with pytest.raises(CorruptData):
            await uploads.put(upload, 1, PiecesBody([b"xyz"], 4))
        found = (await uploads.parts(upload)).parts
        assert [part.etag for part in found] == [first.etag], (found, first)
        await uploads.complete(upload, (first,))
        await agree(store, "a", b"first")

    async def test_parts_that_are_not_named_are_dropped(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        parts = await self.put_parts(store, upload, [1, 2, 3])
        await uploads.complete(upload, (parts[0], parts[2]))
        await agree(store, "a", self.part_body(1) + self.part_body(3))
        assert list(await self.left_behind()) == []

    async def test_what_cannot_be_completed_stays_as_it_is(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        one, two = await self.put_parts(store, upload, [1, 2])
        absent = Part(3, one.etag)
        wrong = Part(2, one.etag)
        for parts in ((one, absent), (one, wrong), (two, one), (one, one)):
            with pytest.raises(InvalidPart):
                await uploads.complete(upload, parts)
        with pytest.raises(NotFound):
            await store.info("a")
        await uploads.complete(upload, (one, two))
        await agree(store, "a", self.part_body(1) + self.part_body(2))

    async def test_a_part_that_is_too_small_is_named(self, store: Store) -> None:
        if not self.min_part_bytes:
            pytest.skip("this store takes parts of any size")
        uploads = store.multipart()
        upload = await uploads.begin("a")
        (one,) = await self.put_parts(store, upload, [1])
        small = await uploads.put(upload, 2, BytesBody(b"x" * (self.min_part_bytes - 1)))
        last = await uploads.put(upload, 3, BytesBody(b"x"))
        with pytest.raises(PartTooSmall):
            await uploads.complete(upload, (one, small, last))
        await uploads.complete(upload, (one, small))
        await agree(store, "a", self.part_body(1) + b"x" * (self.min_part_bytes - 1))

    async def test_completing_again_answers_the_same(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        parts = await self.put_parts(store, upload, [1, 2])
        first = await uploads.complete(upload, parts)
        if self.remembers_completed:
            again = await uploads.complete(upload, parts)
            assert (again.key, again.etag, again.size, again.version) == (first.key, first.etag, first.size, first.version)
        else:
            with pytest.raises(NoSuchUpload):
                await uploads.complete(upload, parts)
        with pytest.raises((NoSuchUpload, InvalidPart)):
            await uploads.complete(upload, (parts[1],))
        for call in (uploads.put(upload, 1, BytesBody(b"x")), uploads.parts(upload), uploads.abort(upload)):
            with pytest.raises(NoSuchUpload):
                await call
        await agree(store, "a", self.part_body(1) + self.part_body(2))

    async def test_completing_at_once_makes_one_object(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("a")
        parts = await self.put_parts(store, upload, [1, 2])
        answers = await asyncio.gather(*(uploads.complete(upload, parts) for _ in range(4)), return_exceptions=True)
        told = [answer for answer in answers if isinstance(answer, ObjectInfo)]
        assert told, answers
        assert len({info.version for info in told}) == 1
        assert all(isinstance(a, (ObjectInfo, NoSuchUpload, Conflict)) for a in answers), answers
        await agree(store, "a", self.part_body(1) + self.part_body(2))

    async def test_an_upload_overwrites_and_is_overwritten(self, store: Store) -> None:
        await store.write("a", BytesBody(b"before"))
        uploads = store.multipart()
        upload = await uploads.begin("a")
        parts = await self.put_parts(store, upload, [1])
        await agree(store, "a", b"before")
        await uploads.complete(upload, parts)
        await agree(store, "a", self.part_body(1))
        await store.write("a", BytesBody(b"after"))
        await agree(store, "a", b"after")

    async def test_two_uploads_of_one_key_are_apart(self, store: Store) -> None:
        uploads = store.multipart()
        first, second = await uploads.begin("a"), await uploads.begin("a")
        assert first.id != second.id
        one = await uploads.put(first, 1, BytesBody(b"first"))
        two = await uploads.put(second, 1, BytesBody(b"second"))
        await uploads.complete(second, (two,))
        await agree(store, "a", b"second")
        await uploads.complete(first, (one,))
        await agree(store, "a", b"first")

    @pytest.mark.parametrize("there", [False, True], ids=["none", "one"])
    async def test_completing_obeys_its_condition(self, store: Store, there: bool) -> None:
        etag = (await store.write("a", BytesBody(b"old"))).etag if there else "0123456789abcdef0123456789abcdef"
        absent, same = Condition(if_none_match="*"), Condition(if_match=etag)
        uploads = store.multipart()
        upload = await uploads.begin("a")
        parts = await self.put_parts(store, upload, [1])
        met, unmet = (same, absent) if there else (absent, same)
        with pytest.raises((ConditionFailed if there else NotFound) if self.takes("complete", unmet) else Unsupported):
            await uploads.complete(upload, parts, condition=unmet)
        assert [entry.key for entry in (await store.list()).entries] == ["a"] * there
        if self.takes("complete", met):
            await uploads.complete(upload, parts, condition=met)
        else:
            await uploads.complete(upload, parts)
        await agree(store, "a", self.part_body(1))

    async def test_the_bounds_of_the_parts_are_known_afterwards(self, store: Store) -> None:
        upload = await store.multipart().begin("a")
        parts = await self.put_parts(store, upload, [2, 5, 9])
        await store.multipart().complete(upload, parts)
        info = await store.info("a")
        if not self.keeps_part_bounds:
            pytest.skip("this store does not tell where parts begin")
        assert info.parts == 3
        start = 0
        for position, number in enumerate((2, 5, 9), 1):
            size = len(self.part_body(number))
            assert await store.part(info, position) == ByteRange(start, start + size)
            start += size
        with pytest.raises(InvalidRange):
            await store.part(info, 4)
        await store.write("a", BytesBody(b"x"))
        with pytest.raises(VersionChanged):
            await store.part(info, 2)
        assert await store.part(await store.info("a"), 1) == ByteRange(0, 1)

    @pytest.mark.parametrize("kind", [("", ""), *PART_CHECKSUMS], ids=lambda kind: " ".join(kind) or "none")
    async def test_the_parts_are_known_afterwards_with_their_checksums(self, store: Store, kind: tuple[str, str]) -> None:
        if kind[0] and kind not in self.part_checksums:
            pytest.skip("this store keeps no such checksums")
        uploads, bodies = store.multipart(), [self.part_body(number) for number in range(1, 5)]
        upload = await uploads.begin("d/a", checksum=kind[0], checksum_type=kind[1])
        sums = [((kind[0], checksum(Algorithm(kind[0]), body)),) if kind[0] else () for body in bodies]
        parts = [await uploads.put(upload, n, BytesBody(body, sums[n - 1])) for n, body in enumerate(bodies, 1)]
        await uploads.complete(upload, tuple(parts))
        info = await store.info("d/a")
        if not self.remembers_parts:
            with pytest.raises(Unsupported):
                await uploads.parts_of(info)
            return
        seen = [
            part
            for after, limit in ((0, 1), (1, 2), (3, 1000))
            for part in await uploads.parts_of(info, after=after, limit=limit)
        ]
        assert [(part.number, part.size) for part in seen] == [(n, len(body)) for n, body in enumerate(bodies, 1)]
        assert [part.checksums for part in seen] == (sums if self.remembers_part_checksums else [()] * 4)
        assert await uploads.parts_of(info, after=4) == ()

    async def test_parts_are_those_of_exactly_one_version(self, store: Store) -> None:
        if not self.remembers_parts:
            pytest.skip("this store does not remember parts")
        uploads = store.multipart()
        upload = await uploads.begin("a")
        info = await uploads.complete(upload, await self.put_parts(store, upload, [1, 2]))
        sizes = [len(self.part_body(number)) for number in (1, 2)]
        assert [(part.number, part.size) for part in await uploads.parts_of(info)] == list(enumerate(sizes, 1))
        whole = await store.write("a", BytesBody(b"x"))
        assert await uploads.parts_of(whole) == ()
        with pytest.raises(VersionChanged):
            await uploads.parts_of(info)

    @pytest.mark.parametrize("kind", PART_CHECKSUMS, ids=" ".join)
    async def test_checksums_of_the_whole_are_made_of_the_parts(self, store: Store, kind: tuple[str, str]) -> None:
        algorithm, how = kind
        if kind not in self.part_checksums:
            with pytest.raises(Unsupported):
                await store.multipart().begin("a", checksum=algorithm, checksum_type=how)
            return
        uploads = store.multipart()
        upload = await uploads.begin("a", checksum=algorithm, checksum_type=how)
        assert (upload.checksum, upload.checksum_type) == kind
        bodies = [self.part_body(number) for number in (1, 2)]
        parts = []
        for number, body in enumerate(bodies, 1):
            given = (algorithm, checksum(Algorithm(algorithm), body))
            parts.append(await uploads.put(upload, number, BytesBody(body, checksums=(given,))))
            assert given in parts[-1].checksums
        whole = checksum(Algorithm(algorithm), b"".join(bodies))
        if how == COMPOSITE:
            joined = b"".join([base64.b64decode(checksum(Algorithm(algorithm), body)) for body in bodies])
            whole = checksum(Algorithm(algorithm), joined) + "-2"
        with pytest.raises((CorruptData, InvalidPart)):
            await uploads.complete(upload, tuple(parts), checksums=((algorithm, checksum(Algorithm(algorithm), b"other")),))
        await uploads.complete(upload, tuple(parts), checksums=((algorithm, whole),))
        checksums = dict((await store.info("a")).checksums)
        assert checksums[algorithm] == whole
        assert checksums[TYPE] == how


class UploadsContract(UploadHooks):
    """Uploads and their parts are listed, and dropped."""

    async def test_an_upload_that_was_never_begun_is_not_there(self, store: Store) -> None:
        uploads = store.multipart()
        begun = await uploads.begin("a")
        part = (await self.put_parts(store, begun, [1]))[0]
        for upload in (Upload("a", "nothing-like-it"), Upload("a", "../../a"), Upload("a", begun.id[:-1]), Upload("a", "0" * 64)):
            for call in (
                uploads.put(upload, 1, BytesBody(b"x")),
                uploads.parts(upload),
                uploads.complete(upload, (part,)),
                uploads.abort(upload),
            ):
                with pytest.raises(NoSuchUpload):
                    await call

    async def test_a_key_that_no_store_holds_begins_no_upload(self, store: Store) -> None:
        for key in ("", "x" * 1025):
            with pytest.raises(InvalidKey):
                await store.multipart().begin(key)

    async def test_an_aborted_upload_is_gone(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("d/a")
        parts = await self.put_parts(store, upload, [1, 2])
        await uploads.abort(upload)
        for call in (uploads.put(upload, 1, BytesBody(b"x")), uploads.complete(upload, parts), uploads.abort(upload)):
            with pytest.raises(NoSuchUpload):
                await call
        assert await self.uploads_of(store) == []
        assert (await store.list()).entries == ()
        assert list(await self.left_behind()) == []

    async def test_a_race_of_abort_and_complete_has_one_outcome(self, store: Store) -> None:
        if not self.settles_races:
            pytest.skip("this store cannot settle such a race")
        uploads = store.multipart()
        for turn in range(10):
            upload = await uploads.begin("a")
            part = await uploads.put(upload, 1, BytesBody(b"x" * 1000))
            calls = [uploads.complete(upload, (part,)), uploads.abort(upload)]
            answers = await asyncio.gather(*(calls if turn % 2 else reversed(calls)), return_exceptions=True)
            lost = [answer for answer in answers if isinstance(answer, BaseException)]
            assert len(lost) == 1, answers
            assert isinstance(lost[0], (NoSuchUpload, Conflict)), answers
            completed = any(isinstance(answer, ObjectInfo) for answer in answers)
            assert [entry.key for entry in (await store.list()).entries] == ["a"] * completed
            await store.delete("a")

    async def test_parts_are_listed_in_pages(self, store: Store) -> None:
        uploads = store.multipart()
        upload = await uploads.begin("d/a")
        assert (await uploads.parts(upload)).parts == ()
        numbers = [2, 11, 100, 3, 9]
        put = {n: await uploads.put(upload, n, BytesBody(b"p" * n)) for n in numbers}
        seen: list[Part] = []
        after: int | None = 0
        while after is not None:
            page = await uploads.parts(upload, after=after, limit=2)
            assert (page.upload.key, page.upload.id) == ("d/a", upload.id)
            seen += page.parts
            after = page.after
        assert [(part.number, part.size, part.etag) for part in seen] == [(n, n, put[n].etag) for n in sorted(numbers)]
        whole = await uploads.parts(upload, limit=len(numbers))
        assert whole.after is None
        assert len((await uploads.parts(upload, after=_UNKNOWN)).parts) == 0

    async def test_uploads_are_listed_in_pages(self, store: Store) -> None:
        uploads = store.multipart()
        assert await self.uploads_of(store) == []
        keys = ["b/2", "a", "b/1", "b/1", "b-0", "c"]
        begun = [await uploads.begin(key) for key in keys]
        wanted = sorted(keys, key=str.encode)
        for limit in (1, 2, 3, 1000):
            found = await self.uploads_of(store, limit=limit)
            assert [upload.key for upload in found] == wanted
            assert {upload.id for upload in found} == {upload.id for upload in begun}
        assert [upload.key for upload in await self.uploads_of(store, "b/", limit=1)] == ["b/1", "b/1", "b/2"]
        assert await self.uploads_of(store, "nothing") == []
        for upload in begun:
            await uploads.abort(upload)
        assert await self.uploads_of(store) == []


class PartCopyContract(UploadHooks):
    """Parts that come out of objects of the same store."""

    async def test_parts_are_copied_out_of_objects(self, store: Store) -> None:
        data = bytes(i % 251 for i in range(max(self.min_part_bytes, 1000) + 5000))
        source = await store.write("source", BytesBody(data))
        uploads = store.multipart()
        upload = await uploads.begin("a")
        cut = ByteRange(7, 7 + max(self.min_part_bytes, 1000))
        parts = (await uploads.copy(upload, 1, source), await uploads.copy(upload, 2, source, cut))
        assert [part.number for part in parts] == [1, 2]
        if self.etag_is_md5:
            assert parts[1].etag == hashlib.md5(data[cut.start : cut.end]).hexdigest()
        await uploads.complete(upload, parts)
        await agree(store, "a", data + data[cut.start : cut.end])

    async def test_a_copied_part_has_the_upload_s_checksum(self, store: Store) -> None:
        if ("crc32", COMPOSITE) not in self.part_checksums:
            pytest.skip("this store keeps no such checksums")
        source = await store.write("source", BytesBody(b"0123456789"))
        uploads = store.multipart()
        upload = await uploads.begin("a", checksum="crc32", checksum_type=COMPOSITE)
        part = await uploads.copy(upload, 1, source, ByteRange(2, 5))
        assert dict(part.checksums)["crc32"] == checksum(Algorithm.CRC32, b"234")

    async def test_a_range_must_lie_within_the_source(self, store: Store) -> None:
        source = await store.write("source", BytesBody(b"x" * 1000))
        uploads = store.multipart()
        upload = await uploads.begin("a")
        for start, end in ((0, 1001), (1000, 1001), (5, 5), (2000, 3000)):
            with pytest.raises(InvalidRange):
                await uploads.copy(upload, 1, source, ByteRange(start, end))
        assert (await uploads.parts(upload)).parts == ()

    async def test_a_source_that_changed_is_not_copied(self, store: Store) -> None:
        source = await store.write("source", BytesBody(b"one"))
        await store.write("source", BytesBody(b"two"))
        uploads = store.multipart()
        upload = await uploads.begin("a")
        for byte_range in (None, ByteRange(0, 2)):
            with pytest.raises(VersionChanged):
                await uploads.copy(upload, 1, source, byte_range)
        with pytest.raises(NoSuchUpload):
            await uploads.copy(Upload("a", "0" * 32), 1, await store.info("source"))


class MultipartContract(CompletingContract, UploadsContract, PartCopyContract):
    """Everything that `Multipart` promises."""
