import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headrace.model.errors import ConditionFailed, Lost, NoSpace, NotFound, SettingsError, Unavailable, Unsupported
from headrace.model.events import ScratchLost
from headrace.model.objects import SCRATCH, SCRATCH_LOST, ByteRange, CommonPrefix, ObjectInfo
from headrace.model.uploads import Part
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.scratch import records
from headrace.scratch import root as scratch_root
from headrace.scratch.records import BLOCK_BYTES, is_hidden, is_written
from headrace.scratch.store import ScratchFolder, ScratchStore
from headrace.scratch.sweep import Sweeper
from headrace.stores.contract_hooks import read_all
from headrace.stores.faulty import Fault, FaultyStore
from headrace.stores.file import FileStore
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store

CAPACITY = 1 << 20


class Rig:
    """Scratch over a store in memory, as one or several processes of a node have it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory = MemoryStore(min_part_bytes=1)
        self.events: list[object] = []
        self.stores: list[ScratchStore] = []

    def opened(self, *, capacity: int = CAPACITY, inner: Store | None = None, ttl_s: float | None = None) -> ScratchStore:
        store = ScratchStore(
            inner or self.memory,
            ScratchFolder(str(self.path), capacity, "test"),
            mount="/m",
            emit=self.events.append,
            ttl_s=ttl_s,
            min_part_bytes=1,
        )
        self.stores.append(store)
        return store

    def file(self, key: str) -> Path:
        return self.path / "objects" / key


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "scratch")
    yield rig
    for store in rig.stores:
        await store.close()


async def keys(store: Store, prefix: str = "", delimiter: str = "", limit: int = 1000) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.list(prefix, delimiter=delimiter, after=after, limit=limit)
        found += [entry.key for entry in page.entries]
        after = page.after
    return found


async def test_nothing_reaches_the_store(rig: Rig) -> None:
    rig.memory.put("a", b"theirs")
    store = rig.opened()
    await store.write("a", BytesBody(b"ours"))
    await store.write("b", BytesBody(b"ours"))
    await store.set_tags("b", (("k", "v"),))
    await store.copy(await store.info("a"), "c")
    await store.delete("c")
    upload = await store.multipart().begin("d")
    part = await store.multipart().put(upload, 1, BytesBody(b"part"))
    await store.multipart().complete(upload, (Part(1, part.etag),))
    assert not {"write", "copy", "delete", "set_tags"} & set(rig.memory.calls)
    assert rig.memory.body("a") == b"theirs"
    assert await keys(store) == ["a", "b", "d"]
    assert await read_all(store, "a") == b"ours"


async def test_listings_and_infos_tell_scratch_from_the_store(rig: Rig) -> None:
    rig.memory.put("theirs", b"x")
    store = rig.opened()
    told = await store.write("ours", BytesBody(b"xy"), Attributes("text/plain"))
    listed = {entry.key: entry for entry in (await store.list()).entries if isinstance(entry, ObjectInfo)}
    assert {key: entry.storage_class for key, entry in listed.items()} == {"theirs": "", "ours": SCRATCH}
    assert (listed["ours"].size, listed["ours"].etag, listed["ours"].version) == (2, told.etag, told.version)
    assert (await store.info("ours")).storage_class == told.storage_class == SCRATCH


async def test_what_was_removed_here_is_not_shown_until_it_is_written_again(rig: Rig) -> None:
    for key in ("d/a", "d/b", "e"):
        rig.memory.put(key, b"theirs")
    store, other = rig.opened(), rig.opened()
    await store.delete("d/a")
    with pytest.raises(NotFound):
        await other.read("d/a")
    assert await keys(other) == ["d/b", "e"]
    assert await keys(other, delimiter="/") == ["d/", "e"]
    await other.delete("d/b")
    assert await keys(store, delimiter="/") == ["e"]
    await store.write("d/b", BytesBody(b"ours"))
    assert await keys(other, delimiter="/") == ["d/", "e"]
    assert await read_all(other, "d/b") == b"ours"
    await store.delete("d/b")
    with pytest.raises(NotFound):
        await other.info("d/b")
    assert rig.memory.body("d/b") == b"theirs"


async def test_a_removal_hides_what_a_store_may_have_that_cannot_be_asked(rig: Rig) -> None:
    rig.memory.put("a", b"theirs")
    away = FaultyStore(rig.memory)
    store = rig.opened(inner=away)
    await store.write("a", BytesBody(b"ours"))
    away.add(Fault("info", times=-1, error=Unavailable("away")))
    await store.delete("a")
    assert away.injected
    away.heal()
    with pytest.raises(NotFound):
        await store.info("a")


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_pages_of_a_listing_show_everything_once(rig: Rig, limit: int, delimiter: str) -> None:
    for key in ("a", "b/1", "b/2", "c/1", "c/2", "e", "g/x", "z//z"):
        rig.memory.put(key, b"theirs")
    store = rig.opened()
    for key in ("a", "b/2", "c/0", "d", "f/1", "f/2", "h//", "é"):
        await store.write(key, BytesBody(b"ours"))
    for key in ("e", "g/x", "f/2", "c/2"):
        await store.delete(key)
    shown = ["a", "b/1", "b/2", "c/0", "c/1", "d", "f/1", "h//", "z//z", "é"]
    rolled = ["a", "b/", "c/", "d", "f/", "h/", "z/", "é"]
    assert await keys(store, delimiter=delimiter, limit=limit) == (rolled if delimiter else shown)
    assert await keys(store, "c/", delimiter, limit) == ["c/0", "c/1"]


async def test_conditions_are_about_what_is_shown(rig: Rig) -> None:
    theirs = rig.memory.put("a", b"theirs")
    store = rig.opened()
    with pytest.raises(ConditionFailed):
        await store.write("a", BytesBody(b"x"), condition=Condition(if_none_match="*"))
    with pytest.raises(ConditionFailed):
        await store.write("a", BytesBody(b"x"), condition=Condition(if_match="0" * 32))
    ours = await store.write("a", BytesBody(b"ours"), condition=Condition(if_match=theirs.etag))
    with pytest.raises(ConditionFailed):
        await store.write("a", BytesBody(b"x"), condition=Condition(if_match=theirs.etag))
    await store.delete("a", condition=Condition(if_match=ours.etag))
    with pytest.raises(NotFound):
        await store.write("a", BytesBody(b"x"), condition=Condition(if_match=theirs.etag))
    await store.write("a", BytesBody(b"again"), condition=Condition(if_none_match="*"))
    assert await read_all(store, "a") == b"again"


async def test_tags_of_the_stores_objects_are_not_changed(rig: Rig) -> None:
    rig.memory.put("a", b"theirs", tags=(("k", "v"),))
    store = rig.opened()
    with pytest.raises(Unsupported):
        await store.set_tags("a", (("k", "w"),))
    await store.copy(await store.info("a"), "a")
    await store.set_tags("a", (("k", "w"),))
    assert await store.tags("a") == (("k", "w"),)
    assert await rig.memory.tags("a") == (("k", "v"),)


async def test_the_stores_own_keys_of_our_names_stay_readable(rig: Rig) -> None:
    rig.memory.put(".headrace/x", b"theirs")
    store = rig.opened()
    assert await read_all(store, ".headrace/x") == b"theirs"
    assert await keys(store) == [".headrace/x"]


def _remove(path: Path) -> None:
    path.unlink()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    found = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _cut(path: Path) -> None:
    os.truncate(path, 10)


def _replace(path: Path) -> None:
    path.with_name("other").write_bytes(b"x" * 10)
    path.with_name("other").rename(path)


@pytest.mark.parametrize("damage", [_remove, _flip, _cut, _replace])
@pytest.mark.parametrize("beneath", [False, True], ids=["nothing beneath", "an older one beneath"])
async def test_lost_bytes_are_an_error_never_a_404_the_older_object_or_wrong_bytes(
    rig: Rig, damage: Callable[[Path], None], beneath: bool
) -> None:
    if beneath:
        rig.memory.put("a", b"theirs, older")
    store, other = rig.opened(), rig.opened()
    told = await store.write("a", BytesBody(os.urandom(3 * BLOCK_BYTES + 5)))
    damage(rig.file("a"))
    for one in (store, other, rig.opened()):
        with pytest.raises(Lost, match="lost"):
            await read_all(one, "a")
        with pytest.raises(Lost):
            await one.info("a")
        (listed,) = (await one.list()).entries
        assert isinstance(listed, ObjectInfo)
        assert (listed.storage_class, listed.size, listed.etag) == (SCRATCH_LOST, told.size, told.etag)
    await other.write("a", BytesBody(b"made again"))
    assert await read_all(store, "a") == b"made again"


async def test_a_lost_object_can_be_removed_and_made_again_if_absent(rig: Rig) -> None:
    store = rig.opened()
    for key in ("a", "b"):
        await store.write(key, BytesBody(b"x"))
        rig.file(key).unlink()
    await store.delete("a")
    with pytest.raises(NotFound):
        await store.info("a")
    await store.write("b", BytesBody(b"again"), condition=Condition(if_none_match="*"))
    assert await read_all(store, "b") == b"again"


async def test_only_the_damaged_block_is_refused_before_the_object_is_let_go(rig: Rig) -> None:
    store = rig.opened(capacity=1 << 30)
    data = os.urandom(8 * BLOCK_BYTES)
    await store.write("a", BytesBody(data))
    reading = await store.read("a")
    _flip(rig.file("a"))
    seen = b""
    with pytest.raises(Lost):
        async for piece in reading:
            seen += bytes(piece)
    assert data.startswith(seen)
    assert len(seen) <= 4 * BLOCK_BYTES
    assert not rig.file("a").exists()


async def test_an_unreadable_record_is_a_lost_object(rig: Rig) -> None:
    store = rig.opened()
    await store.write("a", BytesBody(b"x"))
    (record,) = (rig.path / "objects/.headrace/written").iterdir()
    record.write_bytes(b"\xc1 nonsense")
    with pytest.raises(Lost):
        await store.info("a")
    await store.delete("a")
    assert await keys(store) == []


async def test_beyond_the_bound_writes_are_refused_and_nothing_is_lost(rig: Rig) -> None:
    store, other = rig.opened(), rig.opened()
    await store.write("a", BytesBody(bytes(CAPACITY // 2)))
    with pytest.raises(NoSpace, match="capacity"):
        await other.write("b", BytesBody(bytes(CAPACITY // 2)))
    with pytest.raises(NoSpace):
        await other.copy(await other.info("a"), "b")
    upload = await other.multipart().begin("b")
    with pytest.raises(NoSpace):
        await other.multipart().put(upload, 1, BytesBody(bytes(CAPACITY // 2)))
    assert await read_all(store, "a") == bytes(CAPACITY // 2)
    await store.delete("a")
    await other.write("b", BytesBody(bytes(CAPACITY // 2)))


async def test_room_is_given_back_by_whatever_ends(rig: Rig) -> None:
    store = rig.opened()
    rig.memory.put("theirs", b"x")
    for _ in range(3):
        await store.write("a", BytesBody(bytes(100_000)))
        with pytest.raises(ConditionFailed):
            await store.write("a", BytesBody(bytes(100_000)), condition=Condition(if_none_match="*"))
        upload = await store.multipart().begin("b")
        parts = [await store.multipart().put(upload, number, BytesBody(bytes(50_000))) for number in (1, 2)]
        await store.multipart().complete(upload, tuple([Part(part.number, part.etag) for part in parts]))
        given_up = await store.multipart().begin("b")
        await store.multipart().put(given_up, 1, BytesBody(bytes(50_000)))
        await store.multipart().abort(given_up)
        await store.copy(await store.info("a"), "c")
        await store.delete("theirs")
    assert store.room.used() == 3 * 100_000 + 4 * 4096
    for key in ("a", "b", "c"):
        await store.delete(key)
    assert store.room.used() == 4096
    await store.write("theirs", BytesBody(b""))
    assert store.room.used() == 4096


async def test_what_a_killed_process_had_taken_is_counted_anew(rig: Rig) -> None:
    store = rig.opened()
    await store.write("a", BytesBody(bytes(1000)))
    store.room.add(500_000)
    sweeper = _sweeper(rig, store, None)
    await sweeper.sweep(time.time())
    assert store.room.used() == 1000 + 4096


def _sweeper(rig: Rig, store: ScratchStore, ttl_s: float | None) -> Sweeper:
    folder = ScratchFolder(str(rig.path), CAPACITY, "test")
    return Sweeper(folder.root, FileStore(folder.root), folder.elected, ttl_s=ttl_s)


async def test_what_is_older_than_the_ttl_is_lost(rig: Rig) -> None:
    store = rig.opened()
    await store.write("a", BytesBody(b"x"))
    sweeper = _sweeper(rig, store, 60.0)
    await sweeper.sweep(time.time() + 30)
    assert await read_all(store, "a") == b"x"
    await sweeper.sweep(time.time() + 90)
    with pytest.raises(Lost):
        await read_all(store, "a")
    assert store.room.used() == 4096


async def test_damage_is_told(rig: Rig) -> None:
    store = rig.opened()
    store.start()
    await store.write("a", BytesBody(bytes(100)))
    _flip(rig.file("a"))
    with pytest.raises(Lost):
        await read_all(store, "a")
    await store.list()
    assert ScratchLost("/m", "a") in rig.events


class _Killed(Exception):
    pass


@pytest.mark.parametrize("step", ["before the record", "behind the record", "behind the rename"])
@pytest.mark.parametrize("earlier", [False, True], ids=["a new object", "over an earlier one"])
async def test_a_write_that_is_cut_off_leaves_the_earlier_object_or_none(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str, earlier: bool
) -> None:
    """As a kill would: nothing after the step runs."""
    rig.memory.put("a", b"theirs")
    store = rig.opened()
    if earlier:
        await store.write("a", BytesBody(b"earlier"))
    real_put = scratch_root.put_record
    with monkeypatch.context() as patch:

        def cut(root_fd: int, key: str, record: object) -> None:
            if step == "behind the record":
                real_put(root_fd, key, record)  # type: ignore[arg-type]
            raise _Killed

        if step == "behind the rename":
            patch.setattr(scratch_root, "show", _kill)
            patch.setattr(scratch_root.Room, "add", _kill)
        else:
            patch.setattr(scratch_root, "put_record", cut)
        with pytest.raises(_Killed):
            await store.write("a", BytesBody(b"never acknowledged"))
    seen = await read_all(rig.opened(), "a")
    allowed = {b"never acknowledged"} if step != "before the record" else set()
    assert seen in allowed | {b"earlier" if earlier else b"theirs"}
    await store.write("a", BytesBody(b"again"), condition=Condition(if_match="*"))
    assert await read_all(store, "a") == b"again"


def _kill(*_: object, **__: object) -> None:
    raise _Killed


async def test_a_removal_that_is_cut_off_leaves_the_object_or_none(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.memory.put("a", b"theirs")
    for step in ("hide", "drop_record", "remove_found"):
        store = rig.opened()
        await store.write("a", BytesBody(b"ours"))
        with monkeypatch.context() as patch:
            patch.setattr(scratch_root, step, _kill)
            with pytest.raises(_Killed):
                await store.delete("a")
        if step == "remove_found":
            with pytest.raises(NotFound):
                await read_all(store, "a")
            await store.write("a", BytesBody(b"new"), condition=Condition(if_none_match="*"))
            assert await read_all(store, "a") == b"new"
        else:
            assert await read_all(store, "a") == b"ours"


async def test_ranges_of_blocks_are_right(rig: Rig) -> None:
    store = rig.opened(capacity=1 << 30)
    data = os.urandom(9 * BLOCK_BYTES + 77)
    await store.write("a", BytesBody(data))
    edges = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 4 * BLOCK_BYTES, 5 * BLOCK_BYTES - 3, len(data) - 1, len(data)]
    for start in edges[:-1]:
        for end in edges:
            if end > start:
                assert await read_all(store, "a", ByteRange(start, end)) == data[start:end]


async def test_common_prefixes_of_lost_objects_are_listed(rig: Rig) -> None:
    store = rig.opened()
    await store.write("d/a", BytesBody(b"x"))
    rig.file("d/a").unlink()
    assert (await store.list(delimiter="/")).entries == (CommonPrefix("d/"),)


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="scratch"):
        ScratchFolder(str(tmp_path / "file" / "below"), CAPACITY, "test")


async def test_a_file_without_a_record_is_not_shown_and_goes_when_it_is_old(rig: Rig) -> None:
    store = rig.opened()
    await store.write("a", BytesBody(b"x"))
    (record,) = (rig.path / "objects/.headrace/written").iterdir()
    record.unlink()
    assert await keys(store) == []
    with pytest.raises(NotFound):
        await store.info("a")
    sweeper = _sweeper(rig, store, None)
    await sweeper.sweep(time.time())
    assert rig.file("a").exists()
    await sweeper.sweep(time.time() + 7200)
    assert not rig.file("a").exists()


@pytest.mark.parametrize("look", ["read", "list", "rolled up"])
@pytest.mark.parametrize("seen", [is_written, is_hidden], ids=["behind the record", "behind the removal"])
@pytest.mark.parametrize("change", ["write", "delete"])
async def test_a_change_while_one_looks_never_shows_what_the_store_has(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, look: str, seen: Callable[[int, str], bool], change: str
) -> None:
    rig.memory.put("d/a", b"theirs")
    store, other = rig.opened(), rig.opened()
    await store.write("d/a", BytesBody(b"ours"))
    if change == "write":
        await store.delete("d/a")
    changed = []

    def cut_in(root_fd: int, key: str) -> bool:
        answer = seen(root_fd, key)
        if not changed:
            changed.append(key)
            asyncio.run(other.write(key, BytesBody(b"ours")) if change == "write" else other.delete(key))
        return answer

    monkeypatch.setattr(records, seen.__name__, cut_in)
    if look == "read":
        with contextlib.suppress(NotFound):
            assert await read_all(store, "d/a") == b"ours"
    else:
        page = await store.list(delimiter="/" if look == "rolled up" else "")
        assert [entry for entry in page.entries if isinstance(entry, ObjectInfo) and entry.storage_class != SCRATCH] == []
        assert {entry.key for entry in page.entries} <= {"d/", "d/a"}
