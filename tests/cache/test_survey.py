"""A survey beside a model: it counts exactly what others changed, and afterwards no process serves what it knew before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cache.marks import Marks
from headrace.cache.pages import PageCache, no_touches
from headrace.cache.pieces import PIECE_KEYS
from headrace.cache.settings import CacheSettings, DiskSettings
from headrace.cache.store import CachedStore, CacheOptions
from headrace.cache.survey import Differences, spans_of, survey_of
from headrace.cache.writes import CacheWrites
from headrace.model.errors import HeadraceError, NotFound, Unavailable
from headrace.model.mounts import Freshness, Residency
from headrace.model.objects import Listing
from headrace.model.writing import BytesBody
from headrace.stores.faulty import FaultyStore
from headrace.stores.keys import PAGE_KEYS
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store
from headrace.testing.clock import ManualClock

SETTINGS = CacheSettings(memory="0", disk=(DiskSettings("pages", "1GiB"),), page="4KiB")


class Process:
    """One process's cache over a store that others share, believing what it knows for an hour."""

    def __init__(
        self, home: Path, inner: Store, *, residency: Residency = Residency.DISK, place: str = "memory://", pages_at_once: int = 1
    ) -> None:
        self.home = home
        self.pages = PageCache.open(SETTINGS, home, clock=ManualClock(), emit=lambda _: None, touches=no_touches)
        options = CacheOptions("/m", "identity", Freshness(3600.0), residency, place=place, pages_at_once=pages_at_once)
        marks = Marks.open(home / "marks")
        self.cached = CachedStore(inner, self.pages, options, clock=ManualClock(), emit=lambda _: None, marks=marks)
        self.store = CacheWrites(self.cached)

    async def survey(self, key: str = "", *, hidden: tuple[str, ...] = ()) -> Differences:
        survey = survey_of(self.cached, spans_of(key), hidden=hidden, folder=self.home / "listings")
        await survey.run()
        return survey.found

    async def etag(self, key: str) -> str | None:
        try:
            return (await self.store.info(key)).etag
        except NotFound:
            return None

    async def close(self) -> None:
        await self.store.close()
        await self.pages.close()


async def test_what_was_added_changed_and_deleted_is_counted_and_seen_by_every_process(tmp_path: Path) -> None:
    memory = MemoryStore()
    for number in range(2500):
        memory.put(f"k{number:04d}", b"old")
    one, two = Process(tmp_path, memory), Process(tmp_path, memory)
    assert await one.survey() == Differences(objects=2500, new=2500)
    assert await two.survey() == Differences(objects=2500)
    keys = ("k0000", "k0001", "k1999", "k2499", "k9999")
    before = [await two.etag(key) for key in keys]
    memory.put("k0000", b"new bytes")
    memory.put("k1999", b"other bytes")
    memory.remove("k0001")
    memory.remove("k2499")
    memory.put("k9999", b"added")
    assert [await two.etag(key) for key in keys] == before
    assert await one.survey() == Differences(objects=2499, added=1, changed=2, deleted=2)
    after = [await two.etag(key) for key in keys]
    assert after[1] is None and after[3] is None
    assert all(now != then for now, then in zip(after, before, strict=True))
    assert await one.survey() == Differences(objects=2499)
    await one.close()
    await two.close()


async def test_an_object_that_came_and_went_between_two_surveys_is_not_believed_in(tmp_path: Path) -> None:
    memory = MemoryStore()
    process, other = Process(tmp_path, memory), Process(tmp_path, memory)
    await process.survey()
    memory.put("k", b"here for a while")
    assert await other.etag("k") is not None
    memory.remove("k")
    assert await process.survey() == Differences()
    assert await other.etag("k") is None
    await process.close()
    await other.close()


async def test_what_this_node_wrote_is_told_apart(tmp_path: Path) -> None:
    memory = MemoryStore()
    memory.put("theirs", b"x")
    memory.put("removed", b"x")
    process, other = Process(tmp_path, memory), Process(tmp_path, memory)
    await process.survey()
    await other.store.write("ours", BytesBody(b"written"))
    await other.store.copy(await other.store.info("ours"), "copied")
    await other.store.delete("removed")
    memory.put("theirs", b"changed")
    assert await process.survey() == Differences(objects=3, changed=1, ours=3)
    await other.store.write("both", BytesBody(b"ours at first"))
    memory.put("both", b"then theirs")
    assert await process.survey() == Differences(objects=4, added=1)
    await process.close()
    await other.close()


async def test_a_part_is_compared_with_what_is_known_of_it_and_leaves_the_rest(tmp_path: Path) -> None:
    memory = MemoryStore()
    for key in ("a", "a-b", "a/1", "a/2", "b/1"):
        memory.put(key, b"x")
    process = Process(tmp_path, memory)
    assert await process.survey("a") == Differences(objects=3, new=3)
    memory.put("b/1", b"changed, and never seen before")
    memory.put("a/3", b"x")
    memory.remove("a")
    assert await process.survey() == Differences(objects=5, added=1, deleted=1, new=2)
    memory.put("a-b", b"changed")
    memory.put("a/1", b"changed")
    assert await process.survey("a/") == Differences(objects=3, changed=1)
    assert await process.survey("a-b") == Differences(objects=1, changed=1)
    assert await process.survey("absent") == Differences()
    assert await process.survey() == Differences(objects=5)
    await process.close()


async def test_what_a_deeper_mount_hides_is_left_out_and_compared_anew_when_it_shows(tmp_path: Path) -> None:
    memory = MemoryStore()
    for number in range(1500):
        memory.put(f"in/{number:04d}", b"x")
    memory.put("a", b"x")
    memory.put("z", b"x")
    process = Process(tmp_path, memory)
    assert await process.survey(hidden=("in/",)) == Differences(objects=2, new=2)
    memory.remove("in/0001")
    memory.put("z", b"changed")
    assert await process.survey(hidden=("in/",)) == Differences(objects=2, changed=1)
    assert await process.survey() == Differences(objects=1501, new=1501)
    await process.close()


class Stopping(FaultyStore):
    """Lists two pages, then cannot be reached, or says that it is not there."""

    pages = 0
    error: HeadraceError = Unavailable("gone away")

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        self.pages += 1
        if self.pages == 3:
            raise self.error
        return await super().list(prefix, delimiter=delimiter, after=after, limit=limit)


@pytest.mark.parametrize("error", [Unavailable("gone away"), NotFound("gone away: no such bucket")])
async def test_half_a_listing_deletes_nothing_and_the_next_whole_one_tells_all(tmp_path: Path, error: HeadraceError) -> None:
    memory = MemoryStore()
    for number in range(5000):
        memory.put(f"k{number:04d}", b"old")
    stopping = Stopping(memory)
    stopping.pages, stopping.error = 3, error
    process = Process(tmp_path, stopping)
    await process.survey()
    memory.put("k0000", b"new")
    memory.remove("k0002")
    memory.remove("k4000")
    stopping.pages = 0
    survey = survey_of(process.cached, spans_of(""), hidden=(), folder=tmp_path / "listings")
    with pytest.raises(type(error), match="gone away"):
        await survey.run()
    assert survey.found == Differences(objects=2 * PAGE_KEYS, changed=1, deleted=1)
    assert sorted(path.suffix for path in (tmp_path / "listings").iterdir()) == [""]
    stopping.pages = 3
    assert await process.survey() == Differences(objects=4998, changed=1, deleted=2)
    await process.close()


async def test_names_of_a_mount_that_may_not_lie_on_disks_are_written_nowhere(tmp_path: Path) -> None:
    memory = MemoryStore()
    memory.put("k", b"old")
    for residency in (Residency.NONE, Residency.MEMORY):
        process = Process(tmp_path, memory, residency=residency)
        await process.etag("k")
        memory.put("k", residency.encode())
        assert await process.survey() == Differences(objects=1, new=1)
        assert await process.etag("k") == (await memory.info("k")).etag
        assert not (tmp_path / "listings").exists()
        await process.close()


async def test_a_listing_that_cannot_be_trusted_is_compared_with_nothing(tmp_path: Path) -> None:
    memory = MemoryStore()
    memory.put("k", b"old")
    process = Process(tmp_path, memory)
    await process.survey()
    [kept] = (tmp_path / "listings").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    memory.put("k", b"new")
    assert await process.survey() == Differences(objects=1, new=1)
    assert await process.survey() == Differences(objects=1)
    await process.close()


async def test_a_disk_that_takes_no_listing_costs_the_comparison_alone(tmp_path: Path) -> None:
    memory = MemoryStore()
    memory.put("k", b"old")
    (tmp_path / "listings").write_text("a file in the way")
    process = Process(tmp_path, memory)
    found = await process.survey()
    assert (found.objects, found.new) == (1, 1)
    assert "File exists" in found.note
    await process.close()


async def test_one_survey_of_a_store_at_a_time(tmp_path: Path) -> None:
    memory = MemoryStore()
    for number in range(3000):
        memory.put(f"k{number:04d}", b"x")
    process = Process(tmp_path, memory)
    found = await asyncio.gather(*(process.survey() for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(one, Differences) for one in found) >= 1
    assert all(isinstance(one, Differences) or "another `headrace sync`" in str(one) for one in found)
    await process.close()


class Counting(FaultyStore):
    """Counts questions, and how many were open at the same time."""

    asked = open = most_open = 0

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        self.asked += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0)
        try:
            return await super().list(prefix, delimiter=delimiter, after=after, limit=limit)
        finally:
            self.open -= 1


async def test_where_the_last_listing_tells_where_pages_begin_several_are_asked_for_at_once(tmp_path: Path) -> None:
    memory = MemoryStore()
    count = 10 * PIECE_KEYS
    for number in range(count):
        memory.put(f"k{number:05d}", b"x")
    store = Counting(memory)
    process = Process(tmp_path, store, pages_at_once=4)

    async def questions() -> int:
        before = store.asked
        await process.survey()
        return store.asked - before

    assert await process.survey() == Differences(objects=count, new=count)
    assert store.most_open == 1
    assert await process.survey() == Differences(objects=count)
    assert store.most_open == 4
    for number in range(50):
        memory.put(f"k00100-{number}", b"x")
        memory.remove(f"k{2000 + number:05d}")
    assert await process.survey() == Differences(objects=count, added=50, deleted=50)
    assert await questions() == 10
    for number in range(count):
        memory.put(f"l{number:05d}", b"x")
    assert await process.survey() == Differences(objects=2 * count, added=count)
    assert await questions() <= 21
    for number in range(200, count):
        memory.remove(f"l{number:05d}")
    assert await process.survey() == Differences(objects=count + 200, deleted=count - 200)
    assert await questions() <= 11
    await process.close()


KEYS = st.sampled_from(["a", "a-", "a/", "a/b", "a/b/c", "a/c", "b", "b/x", "c", "é/ü", "\U0001f600"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS),
        st.tuples(st.just("remove"), KEYS),
        st.tuples(st.just("write"), KEYS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("know"), KEYS),
        st.tuples(st.just("survey"), st.sampled_from(["", "", "a", "a/", "a/b", "b", "é"])),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_surveys_agree_with_a_model(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]) -> None:
    asyncio.run(_agree(tmp_path_factory.mktemp("model"), steps))


async def _agree(home: Path, steps: list[tuple[str, str]]) -> None:
    memory = MemoryStore()
    process, other = Process(home, memory), Process(home, memory)
    seen: dict[str, tuple[str, float]] = {}
    known_spans: list[str] = []
    ours: dict[str, str] = {}
    for number, (what, key) in enumerate(steps):
        if what == "put":
            memory.put(key, b"%d" % number)
        elif what == "remove" and await _now(memory, key):
            memory.remove(key)
        elif what == "write":
            ours[key] = (await process.store.write(key, BytesBody(b"own %d" % number))).etag
        elif what == "delete":
            await process.store.delete(key)
            ours[key] = ""
        elif what == "know":
            await other.etag(key)
        elif what == "survey":
            found = await process.survey(key)
            now = {k: v for k, v in (await _all(memory)).items() if _lies(k, key)}
            before = {k: v for k, v in seen.items() if _lies(k, key)}
            told = {k for k in now if any(_lies(k, span) for span in known_spans)} | set(before)
            differ = {k for k in told if now.get(k) != before.get(k)}
            own = {k for k in differ if k in ours and ours[k] == (now[k][0] if k in now else "")}
            rest = differ - own
            assert found == Differences(
                objects=len(now),
                added=len([k for k in rest if k in now and k not in before]),
                changed=len([k for k in rest if k in now and k in before]),
                deleted=len([k for k in rest if k not in now]),
                ours=len(own),
                new=len([k for k in now if k not in told]),
            )
            ours = {k: v for k, v in ours.items() if k not in rest}
            seen = {k: v for k, v in seen.items() if not _lies(k, key)} | now
            known_spans.append(key)
            for k in now | before:
                assert await other.etag(k) == (now[k][0] if k in now else None)
    await process.close()
    await other.close()


def _lies(key: str, at: str) -> bool:
    return not at or key.startswith(at if at.endswith("/") else at + "/") or key == at


async def _now(memory: MemoryStore, key: str) -> bool:
    return key in await _all(memory)


async def _all(memory: MemoryStore) -> dict[str, tuple[str, float]]:
    return {entry.key: (entry.etag, entry.modified_s) for entry in (await memory.list()).entries}  # type: ignore[union-attr]
