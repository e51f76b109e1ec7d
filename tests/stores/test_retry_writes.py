"""Writes are tried again where that cannot do harm; an unknown outcome is settled by what the store has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import (
    BucketExists,
    ConditionFailed,
    DeadlineExceeded,
    HeadraceError,
    NoSuchUpload,
    NotFound,
    Throttled,
    Unavailable,
)
from headrace.model.objects import ObjectInfo, Version
from headrace.model.reading import Buffer
from headrace.model.uploads import Bucket
from headrace.model.writing import Body, BytesBody, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_tools import PiecesBody
from headrace.stores.faulty import Fault, FaultyStore
from headrace.stores.memory import MemoryStore
from headrace.stores.retry import RetryStore
from headrace.stores.retry_writes import RetriedBuckets, has_bytes_of
from support.flaky import SteppedClock

LOST = Unavailable("the answer was lost")


class Rig:
    """A memory store with faults under retries that do not really wait."""

    def __init__(self, *faults: Fault) -> None:
        self.memory = MemoryStore()
        self.faulty = FaultyStore(self.memory, faults)
        clock = SteppedClock()
        self.store = RetryStore(self.faulty, clock, sleep=clock.sleep, jitter=lambda: 0.5)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(verb="write", error=Unavailable("before")),
        Fault(verb="write", cut_at=10),
        Fault(verb="write", lost_answer=LOST),
        Fault(verb="write", error=Throttled("slow down", retry_after_s=0.0)),
    ],
    ids=["before", "in the middle", "after", "throttled"],
)
async def test_an_unconditional_write_is_done_again(fault: Fault) -> None:
    rig = Rig(fault)
    await rig.store.write("k", BytesBody(b"x" * 100))
    assert rig.memory.body("k") == b"x" * 100
    assert rig.faulty.injected == [fault]
    assert rig.faulty.calls["write"] == 2


async def test_a_body_that_cannot_be_sent_again_is_not() -> None:
    rig = Rig(Fault(verb="write", cut_at=1))
    with pytest.raises(Unavailable):
        await rig.store.write("k", PiecesBody([b"x"], 1))
    assert rig.faulty.calls["write"] == 1
    with pytest.raises(NotFound):
        await rig.store.info("k")


async def test_a_body_that_was_not_begun_may_still_be_sent() -> None:
    rig = Rig(Fault(verb="write", error=Unavailable("before")))
    await rig.store.write("k", PiecesBody([b"x"], 1))
    assert rig.memory.body("k") == b"x"


@pytest.mark.parametrize("condition", ["none", "match"])
async def test_a_conditional_write_whose_answer_was_lost_is_found_done(condition: str) -> None:
    rig = Rig(Fault(verb="write", lost_answer=LOST))
    wanted = Condition(if_none_match="*")
    if condition == "match":
        wanted = Condition(if_match=rig.memory.put("k", b"old").etag)
    info = await rig.store.write("k", BytesBody(b"new"), condition=wanted)
    assert info == await rig.memory.info("k")
    assert rig.memory.body("k") == b"new"
    assert rig.faulty.calls["write"] == 1


async def test_a_conditional_write_that_did_not_arrive_is_done_again() -> None:
    rig = Rig(Fault(verb="write", cut_at=1))
    await rig.store.write("k", BytesBody(b"new"), condition=Condition(if_none_match="*"))
    assert rig.memory.body("k") == b"new"
    assert rig.faulty.calls["write"] == 2


async def test_what_somebody_else_wrote_meanwhile_is_never_taken_for_our_own() -> None:
    rig = Rig(Fault(verb="write", cut_at=1))
    old = rig.memory.put("k", b"old")

    class Raced(BytesBody):
        async def __aiter__(self) -> AsyncIterator[Buffer]:
            rig.memory.put("k", b"theirs")
            yield b"ours"

    with pytest.raises(HeadraceError) as caught:
        await rig.store.write("k", Raced(b"ours"), condition=Condition(if_match=old.etag))
    assert isinstance(caught.value, (Unavailable, ConditionFailed))
    assert rig.memory.body("k") == b"theirs"
    assert rig.faulty.calls["write"] == 1


async def test_a_failed_condition_is_not_tried_again() -> None:
    rig = Rig()
    rig.memory.put("k", b"old")
    with pytest.raises(ConditionFailed):
        await rig.store.write("k", BytesBody(b"new"), condition=Condition(if_none_match="*"))
    assert rig.faulty.calls["write"] == 1


@pytest.mark.parametrize("conditional", [False, True])
async def test_a_removal_whose_answer_was_lost_is_done(conditional: bool) -> None:
    rig = Rig(Fault(verb="delete", lost_answer=LOST))
    etag = rig.memory.put("k", b"old").etag
    await rig.store.delete("k", condition=Condition(if_match=etag if conditional else ""))
    with pytest.raises(NotFound):
        rig.memory.body("k")
    assert rig.faulty.injected


async def test_copies_and_tags_are_done_again() -> None:
    rig = Rig(Fault(verb="copy", lost_answer=LOST), Fault(verb="set_tags", lost_answer=LOST))
    await rig.store.copy(rig.memory.put("a", b"x"), "b")
    await rig.store.set_tags("b", (("t", "1"),))
    assert await rig.memory.tags("b") == (("t", "1"),)
    assert rig.faulty.calls["copy"] == rig.faulty.calls["set_tags"] == 2


async def test_a_conditional_copy_in_doubt_is_not_done_again() -> None:
    rig = Rig(Fault(verb="copy", lost_answer=LOST))
    with pytest.raises(Unavailable, match="lost"):
        await rig.store.copy(rig.memory.put("a", b"x"), "b", condition=Condition(if_none_match="*"))
    assert rig.faulty.calls["copy"] == 1


async def test_no_second_upload_is_begun_in_doubt() -> None:
    rig = Rig(Fault(verb="begin_upload", lost_answer=LOST))
    with pytest.raises(Unavailable):
        await rig.store.multipart().begin("k")
    assert len((await rig.memory.multipart().list()).uploads) == 1
    rig.faulty.add(Fault(verb="begin_upload", error=Throttled("slow down", retry_after_s=0.0)))
    await rig.store.multipart().begin("k")
    assert len((await rig.memory.multipart().list()).uploads) == 2


@pytest.mark.parametrize("condition", [Condition(), Condition(if_none_match="*")], ids=["plain", "conditional"])
async def test_an_upload_is_completed_once_whatever_is_lost(condition: Condition) -> None:
    verbs = ("put_part", "complete_upload", "list_parts")
    rig = Rig(*(Fault(verb=verb, lost_answer=LOST) for verb in verbs))
    uploads = rig.store.multipart()
    upload = await uploads.begin("k")
    part = await uploads.put(upload, 1, BytesBody(b"body"))
    assert (await uploads.parts(upload)).parts[0].etag == part.etag
    info = await uploads.complete(upload, (part,), condition=condition)
    assert info.etag == (await rig.memory.info("k")).etag
    assert {fault.verb for fault in rig.faulty.injected} == set(verbs)
    with pytest.raises(NoSuchUpload):
        await uploads.abort(upload)


async def test_that_a_store_could_not_complete_an_upload_is_not_that_there_is_no_such_object() -> None:
    rig = Rig(Fault(verb="complete_upload", error=LOST, times=-1))
    uploads = rig.store.multipart()
    upload = await uploads.begin("k")
    part = await uploads.put(upload, 1, BytesBody(b"body"))
    with pytest.raises(Unavailable):
        await uploads.complete(upload, (part,))


async def test_an_upload_whose_abort_was_lost_is_aborted() -> None:
    rig = Rig(Fault(verb="abort_upload", lost_answer=LOST))
    upload = await rig.store.multipart().begin("k")
    await rig.store.multipart().abort(upload)
    assert (await rig.memory.multipart().list()).uploads == ()
    with pytest.raises(NoSuchUpload):
        await rig.store.multipart().abort(upload)


class LosingBuckets(Buckets):
    """Loses the answer to each first call."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lost = False

    def _lose(self) -> None:
        self.lost = not self.lost
        if self.lost:
            raise LOST

    async def list(self) -> tuple[Bucket, ...]:
        return tuple([Bucket(name) for name in sorted(self.names)])

    async def create(self, name: str) -> Bucket:
        if name in self.names:
            self.lost = False
            raise BucketExists(name)
        self.names.add(name)
        self._lose()
        return Bucket(name)

    async def delete(self, name: str) -> None:
        if name not in self.names:
            self.lost = False
            raise NotFound(name)
        self.names.discard(name)
        self._lose()


async def test_buckets_whose_answers_were_lost_are_made_and_removed() -> None:
    clock, inner = SteppedClock(), LosingBuckets()
    buckets = RetriedBuckets(inner, RetryStore(MemoryStore(), clock, sleep=clock.sleep).retried)
    assert (await buckets.create("name")).name == "name"
    with pytest.raises(BucketExists):
        await buckets.create("name")
    await buckets.delete("name")
    assert await buckets.list() == ()
    with pytest.raises(NotFound):
        await buckets.delete("name")


class Paused(PiecesBody):
    """A body that takes its time before each piece."""

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        async for piece in super().__aiter__():
            await asyncio.sleep(0.06)
            yield piece


async def test_a_long_write_is_not_late_while_it_gets_ahead() -> None:
    memory = MemoryStore()
    store = RetryStore(memory, SystemClock(), deadline_s=0.1)
    await store.write("k", Paused([b"x"] * 5, 5))
    assert await read_all(memory, "k") == b"xxxxx"


async def test_a_store_that_stops_taking_a_body_ends_at_the_deadline() -> None:
    faulty = FaultyStore(MemoryStore(), [Fault(verb="write", hang_at=1)])
    store = RetryStore(faulty, SystemClock(), deadline_s=0.1)
    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(10):
            await store.write("k", BytesBody(b"x"))
    assert faulty.injected


MD5_OF_X = "ndTkYSaMgDT1yFZOFVxnpg=="


@pytest.mark.parametrize(
    ("body", "etag", "checksums", "same"),
    [
        (BytesBody(b"x"), "9dd4e461268c8034f5c8564e155c67a6", (), True),
        (BytesBody(b"x"), "17000000001", (("md5", MD5_OF_X), ("type", "FULL_OBJECT")), True),
        (BytesBody(b"y"), "17000000001", (("md5", MD5_OF_X), ("type", "FULL_OBJECT")), False),
        (PiecesBody([b"x"]), "17000000001", (("md5", MD5_OF_X), ("type", "FULL_OBJECT")), False),
        (BytesBody(b"y", (("crc32", "abc="),)), "17000000001", (("crc32", "abc="), ("type", "FULL_OBJECT")), True),
        (BytesBody(b"y", (("crc32", "abc="),)), "17000000001", (("crc32", "abc="), ("type", "COMPOSITE")), False),
        (BytesBody(b"x"), "17000000001", (), False),
    ],
    ids=["ETag", "MD5 beside it", "other MD5", "passed by", "another checksum", "of parts", "nothing known"],
)
async def test_a_store_is_seen_to_hold_a_body_by_what_both_are_known_by(
    body: Body, etag: str, checksums: Pairs, same: bool
) -> None:
    found = ObjectInfo("k", 1, Version(f"etag:{etag}"), etag=etag, checksums=checksums)
    assert await has_bytes_of(found, body) is same
