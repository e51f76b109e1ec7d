"""A store behind a journal: what is acknowledged is seen at once, survives, and reaches the store, whatever the store does."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.model.clock import SystemClock
from headrace.model.disk import SystemDisk
from headrace.model.errors import AccessDenied, CorruptData, DeadlineExceeded, NotFound, Unavailable
from headrace.model.events import StagedConflict, StagingFault
from headrace.model.objects import Listing
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.staging.conflicts import Conflicts
from headrace.staging.journal import Journal, JournalFailed
from headrace.staging.records import ABSENT, UNKNOWN
from headrace.staging.settings import StagingSettings
from headrace.staging.store import StagedStore
from headrace.stores.contract import StoreContract
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_writing import WritingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store
from headrace.testing.clock import ManualClock
from headrace.testing.disk import FaultyDisk
from support.caching import until
from support.gates import GatedStore
from support.histories import Process

LONG = os.urandom(700_000)
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"


class Place:
    """A memory store behind a gate, and journals of it that can be opened again."""

    def __init__(self, root: Path, *, capacity: str = "1GiB", last_seen: str = "?") -> None:
        self.memory = MemoryStore()
        self.gate = GatedStore(self.memory)
        self.events: list[object] = []
        self.disk = FaultyDisk()
        self._root = root
        self._settings = StagingSettings(capacity=capacity)
        self._last_seen = last_seen
        self.opened: list[StagedStore] = []

    def open(self) -> StagedStore:
        journal = Journal(str(self._root), self.disk, log_bytes=1 << 20)
        store = StagedStore(
            self.gate, self.gate, journal, self._settings, mount="/m", clock=SystemClock(), emit=self.events.append,
            last_seen=lambda _: self._last_seen,
        )  # fmt: skip
        store.start()
        self.opened.append(store)
        return store

    def conflicts(self) -> list[tuple[str, str]]:
        return [(c.key, c.kept_as) for c in Conflicts(str(self._root), SystemDisk()).open()]

    async def close(self) -> None:
        for store in self.opened:
            await store.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    await made.close()


class TestStagedStore(StoreContract, WritingContract):
    """Whatever is written here must look as it would at the store itself."""

    min_part_bytes = 5_000

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path

    async def make_store(self) -> Store:
        place = Place(self.root)
        place.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        place.gate = GatedStore(place.memory)
        self.memory = place.memory
        return place.open()

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


async def names(store: Store, **options: str) -> list[str]:
    return [entry.key for entry in (await store.list(**options)).entries]  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"short", LONG], ids=["empty", "short", "long"])
async def test_a_write_is_seen_at_once_and_reaches_the_store(place: Place, body: bytes) -> None:
    store = place.open()
    place.gate.shut()
    attributes = Attributes("text/csv", (("cache-control", "no-store"),), (("who", "me"),), (("t", "1"),))
    info = await store.write("a/b", BytesBody(body), attributes)
    assert await read_all(store, "a/b") == body
    shown = await store.info("a/b")
    assert shown == info
    assert await store.tags("a/b") == (("t", "1"),)
    assert await store.part(info, 1)
    place.gate.open()
    await store.drained("", below=True)
    assert place.memory.body("a/b") == body
    there = await place.memory.info("a/b")
    assert (there.etag, there.content_type, there.metadata) == (info.etag, "text/csv", (("who", "me"),))
    assert await place.memory.tags("a/b") == (("t", "1"),)
    assert (await store.info("a/b")).version == info.version


async def test_writes_are_acknowledged_while_the_store_is_away_and_outlive_the_process(place: Place) -> None:
    place.gate.fail(Unavailable("away"))
    store = place.open()
    for number in range(3):
        await store.write("k", BytesBody(b"%d" % number))
    await store.write("long", BytesBody(LONG))
    await store.delete("gone")
    await until(lambda: store.standing().error)
    assert (store.standing().writes, store.standing().bytes) == (5, 3 + len(LONG))
    await store.close()
    place.opened.clear()
    again = place.open()
    assert await read_all(again, "k") == b"2"
    assert await read_all(again, "long") == LONG
    place.gate.heal()
    await again.drained("", below=True)
    assert place.memory.body("k") == b"2"
    assert place.memory.body("long") == LONG
    assert again.standing().writes == 0
    assert not list((place._root / "bodies").iterdir())


async def test_the_writes_of_one_key_reach_the_store_in_their_order(place: Place) -> None:
    store = place.open()
    bodies = [b"%d" % number for number in range(20)]
    for body in bodies:
        await store.write("k", BytesBody(body))
    await store.delete("k")
    await store.write("k", BytesBody(b"last"))
    await store.drained("k")
    assert place.gate.written["k"] == [*bodies, None, b"last"]


async def test_a_removed_object_is_not_there_and_not_listed(place: Place) -> None:
    for key in ("a/1", "a/2", "b"):
        place.memory.put(key, b"x")
    store = place.open()
    place.gate.shut()
    await store.delete("a/1")
    with pytest.raises(NotFound):
        await store.info("a/1")
    with pytest.raises(NotFound):
        await store.read("a/1")
    assert await names(store) == ["a/2", "b"]
    assert await names(store, delimiter="/") == ["a/", "b"]
    await store.delete("a/2")
    assert await names(store, delimiter="/") == ["b"]
    await store.write("a/3", BytesBody(b"x"))
    assert await names(store, delimiter="/") == ["a/", "b"]
    place.gate.open()
    await store.drained("", below=True)
    assert await names(place.memory) == ["a/3", "b"]


async def test_another_process_sees_a_write_before_it_is_acknowledged_to_have_happened(place: Place) -> None:
    one, two = place.open(), place.open()
    place.gate.shut()
    await one.write("k", BytesBody(b"by one"))
    assert await read_all(two, "k") == b"by one"
    assert two.peek("k", None) is None
    assert two.peek("k", None, files=True) is None
    await two.write("k", BytesBody(b"by two"))
    assert await read_all(one, "k") == b"by two"
    place.gate.open()
    await one.drained("k")
    assert place.gate.written["k"] == [b"by one", b"by two"]


async def test_a_process_takes_over_the_uploads_of_one_that_is_gone(place: Place) -> None:
    one, two = place.open(), place.open()
    place.gate.fail(Unavailable("away"))
    await one.write("k", BytesBody(b"x"))
    await one.close()
    place.opened.remove(one)
    place.gate.heal()
    await two.drained("k")
    assert place.memory.body("k") == b"x"


async def test_what_changed_at_the_store_meanwhile_stays_and_ours_is_kept_beside_it(tmp_path: Path) -> None:
    place = Place(tmp_path, last_seen="-")
    store = place.open()
    place.gate.fail(Unavailable("away"))
    await store.write("k", BytesBody(b"ours"))
    await store.write("k", BytesBody(b"ours again"))
    place.memory.put("k", b"theirs")
    place.gate.heal()
    await store.drained("k")
    assert place.memory.body("k") == b"theirs"
    kept = [key for key in await names(place.memory) if ".conflict-" in key]
    assert sorted(place.memory.body(key) for key in kept) == [b"ours", b"ours again"]
    assert sorted(place.conflicts()) == sorted(("k", key) for key in kept)
    assert len(store.conflicts.open()) == 2
    assert [type(event) for event in place.events] == [StagedConflict, StagedConflict]
    await place.close()


async def test_a_removal_of_what_changed_meanwhile_removes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, last_seen="etag of another version")
    place.memory.put("k", b"theirs")
    store = place.open()
    await store.delete("k")
    await store.drained("k")
    assert place.memory.body("k") == b"theirs"
    assert place.conflicts() == [("k", "")]
    await place.close()


@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_a_listing_shows_what_reaches_the_store_while_it_is_made(
    place: Place, monkeypatch: pytest.MonkeyPatch, delimiter: str
) -> None:
    place.memory.put("old/gone", b"x")
    store = place.open()
    place.gate.shut()
    await store.write("new/one", BytesBody(b"n"))
    await store.delete("old/gone")
    listed = place.gate.list

    async def older(prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        page = await listed(prefix, delimiter=delimiter, after=after, limit=limit)
        place.gate.open()
        await store.drained("", below=True)
        return page

    monkeypatch.setattr(place.gate, "list", older)
    page = await store.list(delimiter=delimiter)
    assert [entry.key for entry in page.entries] == ["new/" if delimiter else "new/one"]
    assert await names(place.memory) == ["new/one"]


@pytest.mark.parametrize("knows_conditions", [True, False])
async def test_an_empty_object_that_meets_an_empty_one_is_no_conflict(tmp_path: Path, knows_conditions: bool) -> None:
    place = Place(tmp_path, last_seen=ABSENT)
    place.memory.publish("d/", b"", Attributes(), etag=f"{EMPTY}-0")
    place.gate.knows_conditions = knows_conditions
    store = place.open()
    await store.write("d/", BytesBody(b""))
    await store.drained("d/")
    assert place.conflicts() == []
    assert await names(place.memory) == ["d/"]
    await place.close()


async def test_an_empty_object_is_removed_under_whatever_tag_its_store_shows_it(tmp_path: Path) -> None:
    place = Place(tmp_path, last_seen=EMPTY)
    place.memory.publish("d/", b"", Attributes(), etag=f"{EMPTY}-0")
    store = place.open()
    await store.delete("d/")
    await store.drained("d/")
    assert place.conflicts() == []
    assert await names(place.memory) == []
    await place.close()


async def test_nothing_is_removed_where_a_store_made_the_directory_and_nobody_else_did(tmp_path: Path) -> None:
    place = Place(tmp_path, last_seen=ABSENT)
    place.memory.publish("d/", b"", Attributes(), etag=f"{EMPTY}-0")
    store = place.open()
    await store.delete("d/")
    await store.drained("d/")
    assert place.conflicts() == []
    assert await names(place.memory) == ["d/"]
    await place.close()


async def test_a_removal_of_what_others_have_removed_is_told_to_the_caches(tmp_path: Path) -> None:
    memory = MemoryStore()
    memory.put("k", b"x")
    here, there = (Process(tmp_path, memory, ManualClock(), lambda _: UNKNOWN) for _ in range(2))
    assert (await there.store.info("k")).size == 1
    memory.remove("k")
    await here.store.delete("k")
    assert here.staged is not None
    await here.staged.drained("k")
    with pytest.raises(NotFound):
        await there.store.info("k")
    await here.close()
    await there.close()


async def test_a_write_whose_answer_was_lost_is_not_taken_for_anothers(tmp_path: Path) -> None:
    place = Place(tmp_path, last_seen="-")
    store = place.open()
    place.gate.lose_answers(1)
    await store.write("k", BytesBody(b"ours"))
    await store.drained("k")
    assert place.gate.lost == 1
    assert place.memory.body("k") == b"ours"
    assert place.conflicts() == []
    await place.close()


async def test_a_store_without_conditions_is_looked_at_before_it_is_written(tmp_path: Path) -> None:
    place = Place(tmp_path, last_seen="-")
    place.gate.knows_conditions = False
    store = place.open()
    await store.write("new", BytesBody(b"ours"))
    await store.drained("new")
    assert place.memory.body("new") == b"ours"
    place.memory.put("old", b"theirs")
    await store.write("old", BytesBody(b"ours"))
    await store.drained("old")
    assert place.memory.body("old") == b"theirs"
    assert len(place.conflicts()) == 1
    await place.close()


async def test_a_conditional_write_is_decided_by_the_store_behind_what_is_staged(place: Place) -> None:
    store = place.open()
    place.gate.shut()
    info = await store.write("k", BytesBody(b"first"))
    waiting = asyncio.ensure_future(store.write("k", BytesBody(b"second"), condition=Condition(if_match=info.etag)))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    place.gate.open()
    await waiting
    assert place.memory.body("k") == b"second"


async def test_a_store_that_is_away_is_asked_seldom_however_much_waits(place: Place) -> None:
    place.gate.fail(AccessDenied("the key has expired"))
    store = place.open()
    await asyncio.gather(*(store.write(f"k{number}", BytesBody(b"x")) for number in range(300)))
    await asyncio.sleep(1.2)
    assert 1 <= place.gate.refused <= 20
    place.gate.heal()
    store.retry_now()
    await store.drained("", below=True)
    assert len((await place.memory.list()).entries) == 300


async def test_waiting_for_a_store_that_is_away_ends_with_its_reason(place: Place) -> None:
    place.gate.fail(Unavailable("the cable is out"))
    store = place.open()
    await store.write("k", BytesBody(b"x"))
    await until(lambda: store.standing().error)
    with pytest.raises(DeadlineExceeded, match="the cable is out"):
        await store.drained("k", deadline_s=0.1)


@pytest.mark.parametrize("body", [b"short", LONG], ids=["short", "long"])
async def test_beyond_its_bound_writes_go_straight_to_the_store(tmp_path: Path, body: bytes) -> None:
    place = Place(tmp_path, capacity="100")
    store = place.open()
    place.gate.shut()
    await store.write("staged", BytesBody(b"x" * 100))
    through = asyncio.ensure_future(store.write("through", BytesBody(body)))
    await asyncio.sleep(0.05)
    assert not through.done()
    place.gate.open()
    await through
    assert place.memory.body("through") == body
    await place.close()


@pytest.mark.parametrize("body", [b"short", LONG], ids=["short", "long"])
async def test_a_full_disk_sends_the_write_to_the_store_whole(place: Place, body: bytes) -> None:
    store = place.open()
    place.disk.fail["pwrite"] = errno.ENOSPC
    await store.write("k", BytesBody(body))
    assert place.disk.injected["pwrite"] >= 1
    assert place.memory.body("k") == body
    place.disk.heal()
    await store.write("k2", BytesBody(body))
    await store.drained("k2")
    assert place.memory.body("k2") == body
    await until(lambda: not list((place._root / "bodies").iterdir()))  # removed when it is known that the store has it


async def test_after_a_failed_fsync_nothing_is_acknowledged_by_the_journal_again(place: Place) -> None:
    store = place.open()
    place.disk.fail["fsync"] = errno.EIO
    with pytest.raises(JournalFailed):
        await store.write("k", BytesBody(b"lost"))
    place.disk.heal()
    place.gate.shut()
    through = asyncio.ensure_future(store.write("k2", BytesBody(b"x")))
    await asyncio.sleep(0.05)
    assert not through.done()
    place.gate.open()
    await through
    assert place.memory.body("k2") == b"x"
    assert any(isinstance(event, StagingFault) for event in place.events)


async def test_a_damaged_body_is_never_served_nor_sent(place: Place) -> None:
    store = place.open()
    place.gate.shut()
    await store.write("k", BytesBody(LONG))
    (file,) = (place._root / "bodies").iterdir()
    with file.open("r+b") as damaged:
        damaged.seek(1000)
        damaged.write(bytes([LONG[1000] ^ 1]))
    with pytest.raises(CorruptData):
        await read_all(store, "k")
    place.gate.open()
    await until(lambda: "damaged" in store.standing().error)
    with pytest.raises(NotFound):
        place.memory.body("k")
