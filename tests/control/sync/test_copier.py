"""Copies that meet changes, wrong bytes, stores that cannot compare, and breaks in the middle."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from headrace.control.sync.copier import Copier
from headrace.control.sync.notes import Notes
from headrace.control.sync.pace import Pacer
from headrace.control.sync.schedule import parse_bandwidth
from headrace.control.sync.sides import seen_as, side_page
from headrace.model.clock import SystemClock
from headrace.model.errors import ConditionFailed, CorruptData, Unavailable, Unsupported, VersionChanged
from headrace.model.objects import ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, BytesBody, Condition
from headrace.stores.keys import PROOF_NAME
from headrace.stores.memory import MemoryStore
from headrace.stores.passing import PassingUploads
from headrace.stores.writes import whole
from headrace.testing.clock import ManualClock
from support.syncing import bodies, namespace_of, no_own_copy

MIB = 1 << 20


def copier(a: MemoryStore, b: MemoryStore, *, pacer: Pacer | None = None, notes: Notes | None = None) -> Copier:
    return Copier(namespace_of(a=a, b=b), pacer or Pacer(SystemClock()), no_own_copy, asyncio.Semaphore(2), notes)


async def at(made: Copier, path: str) -> ObjectInfo:
    return await made.namespace.info(path)


@pytest.mark.parametrize("size", [0, 1, MIB + 1, 8 * MIB, 8 * MIB + 1, 20 * MIB])
async def test_bytes_of_any_length_arrive_and_are_proved(size: int) -> None:
    a, b = MemoryStore(), MemoryStore()
    body = os.urandom(size)
    a.put("k", body, metadata=(("m", "1"),))
    made = copier(a, b)
    info, verified = await made.copy(await at(made, "/a/k"), "/b/k", None)
    assert bodies(b) == {"k": body}
    assert verified
    assert info.metadata == (("m", "1"),)


async def test_what_appeared_or_changed_at_the_destination_stays() -> None:
    a, b = MemoryStore(), MemoryStore()
    a.put("k", b"new")
    b.put("k", b"theirs")
    made = copier(a, b)
    with pytest.raises(ConditionFailed):
        await made.copy(await at(made, "/a/k"), "/b/k", None)
    old = seen_as("k", await b.info("k"))
    b.put("k", b"theirs again")
    with pytest.raises(ConditionFailed):
        await made.copy(await at(made, "/a/k"), "/b/k", old)
    with pytest.raises(ConditionFailed):
        await made.delete("/b/k", old)
    assert bodies(b) == {"k": b"theirs again"}


async def test_a_source_that_is_another_version_now_is_not_copied() -> None:
    a, b = MemoryStore(), MemoryStore()
    a.put("k", b"old")
    made = copier(a, b)
    old = await at(made, "/a/k")
    a.put("k", b"new")
    with pytest.raises(VersionChanged):
        await made.copy(old, "/b/k", None)
    assert not bodies(b)


class Careless(MemoryStore):
    """Compares nothing as it writes, and says so."""

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        if condition:
            raise Unsupported("no conditions here")
        return await super().write(key, body, attributes)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        if condition:
            raise Unsupported("no conditions here")
        await super().delete(key)


async def test_a_store_that_cannot_compare_is_looked_at_just_before() -> None:
    a, b = MemoryStore(), Careless()
    a.put("k", b"new")
    made = copier(a, b)
    await made.copy(await at(made, "/a/k"), "/b/k", None)
    with pytest.raises(ConditionFailed):
        await made.copy(await at(made, "/a/k"), "/b/k", None)
    seen = seen_as("k", await b.info("k"))
    b.put("k", b"theirs")
    with pytest.raises(ConditionFailed):
        await made.delete("/b/k", seen)
    await made.delete("/b/k", seen_as("k", await b.info("k")))
    assert not bodies(b)


class OwnTags(MemoryStore):
    """ETags that are no MD5s; with `flips`, what it keeps is not what it was sent."""

    flips = False

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        data = b"".join([bytes(piece) async for piece in whole(body, key)])
        kept = data[:-1] + b"?" if self.flips else data
        return self.publish(key, kept, attributes, etag=f"own-{len(data)}")


async def test_where_etags_prove_nothing_the_copy_is_read_back() -> None:
    a, b = MemoryStore(), OwnTags()
    a.put("k", b"body")
    made = copier(a, b)
    assert (await made.copy(await at(made, "/a/k"), "/b/k", None))[1]
    assert b.bytes_read == 4


async def test_other_bytes_than_were_sent_are_noticed_and_removed() -> None:
    a, b = MemoryStore(), OwnTags()
    b.flips = True
    a.put("k", b"body")
    made = copier(a, b)
    with pytest.raises(CorruptData, match="it was removed"):
        await made.copy(await at(made, "/a/k"), "/b/k", None)
    assert not bodies(b)


async def test_an_etag_that_only_looks_like_an_md5_is_no_corruption() -> None:
    a, b = MemoryStore(), MemoryStore()
    a.publish("k", b"sealed", PLAIN, etag="0" * 32)
    made = copier(a, b)
    await made.copy(await at(made, "/a/k"), "/b/k", None)
    assert bodies(b) == {"k": b"sealed"}


class _CutUploads(PassingUploads):
    def __init__(self, store: Cut) -> None:
        super().__init__(MemoryStore.multipart(store))
        self._store = store

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        if number == self._store.away_at:
            raise Unavailable("away")
        self._store.sent.append(number)
        return await super().put(upload, number, body)


class Cut(MemoryStore):
    """Away when one part comes."""

    def __init__(self) -> None:
        super().__init__()
        self.away_at = 0
        self.sent: list[int] = []

    def multipart(self) -> PassingUploads:
        return _CutUploads(self)


async def test_a_long_object_goes_on_with_the_parts_that_are_there(tmp_path: Path) -> None:
    a, b = MemoryStore(), Cut()
    body = os.urandom(30 * MIB)
    a.put("k", body)
    b.away_at = 4
    with pytest.raises(Unavailable):
        made = copier(a, b, notes=Notes(tmp_path / "notes"))
        await made.copy(await at(made, "/a/k"), "/b/k", None)
    assert not bodies(b)
    before, b.away_at = set(b.sent), 0
    b.sent.clear()
    made = copier(a, b, notes=Notes(tmp_path / "notes"))
    await made.copy(await at(made, "/a/k"), "/b/k", None)
    assert bodies(b) == {"k": body}
    assert set(b.sent) == {1, 2, 3, 4} - before
    assert not list((tmp_path / "notes").iterdir())


async def test_parts_of_an_older_version_are_dropped(tmp_path: Path) -> None:
    a, b = MemoryStore(), Cut()
    a.put("k", os.urandom(20 * MIB))
    b.away_at = 3
    made = copier(a, b, notes=Notes(tmp_path))
    with pytest.raises(Unavailable):
        await made.copy(await at(made, "/a/k"), "/b/k", None)
    b.away_at, newer = 0, os.urandom(20 * MIB)
    a.put("k", newer)
    await made.copy(await at(made, "/a/k"), "/b/k", None)
    assert bodies(b) == {"k": newer}
    assert not (await b.multipart().list()).uploads


async def test_bytes_pass_no_faster_than_the_window_of_the_day_lets_them() -> None:
    clock = ManualClock()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    pacer = Pacer(clock, sleep=sleep)
    pacer.set(parse_bandwidth("00:00-12:00=1MiB/s,12:00-00:00=1MiB/s"), 2)
    a, b = MemoryStore(), MemoryStore()
    a.put("k", bytes(4 * MIB))
    made = copier(a, b, pacer=pacer)
    await made.copy(await at(made, "/a/k"), "/b/k", None)
    assert 4 / 0.5 - 0.5 <= sum(waits) <= 4 / 0.5


async def test_a_side_shows_what_lies_below_its_path_and_no_trials_of_stores() -> None:
    store = MemoryStore()
    for key in ("d/x", "d/", "d", "dx", f"d/y/{PROOF_NAME}0123", "d/y/z"):
        store.put(key, b"1")
    namespace = namespace_of(a=store)
    page = await side_page(namespace, "/a/d", after="", limit=2)
    keys = [seen.key for seen in page.objects]
    while page.after is not None:
        page = await side_page(namespace, "/a/d", after=page.after, limit=2)
        keys += [seen.key for seen in page.objects]
    assert keys == ["x", "y/z"]
    assert [seen.key for seen in (await side_page(namespace, "/a", after="", limit=10)).objects] == [
        "d", "d/", "d/x", "d/y/z", "dx",
    ]  # fmt: skip


async def test_two_sources_of_one_length_are_told_apart_by_their_bytes() -> None:
    a, b = MemoryStore(), MemoryStore()
    a.put("k", b"one")
    b.put("k", b"two")
    made = copier(a, b)
    one, two = await at(made, "/a/k"), await at(made, "/b/k")
    assert await made.digest(one) != await made.digest(two)
    await b.write("k", BytesBody(b"one"))
    assert await made.digest(one) == await made.digest(await at(made, "/b/k"))
    with pytest.raises(VersionChanged):
        await made.digest(msgspec.structs.replace(two))
