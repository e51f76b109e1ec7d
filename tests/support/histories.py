"""Long random histories of a mount, from a seed: what callers, others at the store, time, restarts and faults do, beside a model.

Everything between the callers and the store is real: the journal where there is one, the cache with its pages, retries. Two
serving processes share a home. A failure says seed and step; the same seed takes the same steps again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headrace.cache.layout import parse_segment
from headrace.cache.marks import Marks
from headrace.cache.pages import PageCache, no_touches
from headrace.cache.settings import CacheSettings, DiskSettings
from headrace.cache.store import CachedStore, CacheOptions
from headrace.cache.writes import CacheWrites
from headrace.model.clock import SystemClock
from headrace.model.disk import SystemDisk
from headrace.model.errors import ConditionFailed, CorruptData, InvalidRange, NotFound, Unavailable, VersionChanged
from headrace.model.mounts import Freshness
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, BytesBody, Condition
from headrace.staging.journal import Journal
from headrace.staging.records import ABSENT
from headrace.staging.settings import StagingSettings
from headrace.staging.store import StagedStore
from headrace.stores.faulty import Fault, FaultyStore
from headrace.stores.memory import MemoryStore
from headrace.stores.retry import RetrySettings, RetryStore
from headrace.stores.store import Store
from headrace.testing.clock import ManualClock
from support.caching import body_of

KEYS = ("a", "a/b", "a//c", "dir/", "é", "z")
FRESHNESS_S = 2.0
SIZES = (0, 1, 100, 100, 100, 5_000, 5_000, 20_000, 300_000)
FAULTS_SHARE = 0.2
UPLOADS_MAX = 4
STEP_DEADLINE_S = 30
_FOLDER_CHARS = 3
_PAGES = CacheSettings(memory="0", disk=(DiskSettings("pages", "1GiB"),), page="4KiB")
_RETRY = RetrySettings(tries=3, base_s=0.0002, longest_s=0.001, failures_to_open=sys.maxsize)

T = TypeVar("T")


def etag(body: bytes | None) -> str:
    return ABSENT if body is None else hashlib.md5(body, usedforsecurity=False).hexdigest()


class Process:
    """One serving process: its own view of the pages and, with write-back, of the journal."""

    def __init__(self, home: Path, inner: Store, clock: ManualClock, last_seen: Callable[[str], str] | None) -> None:
        self._pages = PageCache.open(_PAGES, home, clock=clock, emit=_ignore, touches=no_touches)
        options = CacheOptions("/m", "identity", Freshness(FRESHNESS_S), place="memory://")
        cached = CachedStore(inner, self._pages, options, clock=clock, emit=_ignore, marks=Marks.open(home / "marks"))
        self.store: Store = CacheWrites(cached)
        self.staged: StagedStore | None = None
        if last_seen is not None:
            journal = Journal(str(home / "journal"), SystemDisk(), log_bytes=20_000)
            self.store = self.staged = StagedStore(
                self.store, inner, journal, StagingSettings(), mount="/m", clock=SystemClock(), emit=_ignore, last_seen=last_seen
            )
            self.staged.start()

    async def close(self) -> None:
        await self.store.close()
        await self._pages.close()


class Model:
    """What the store has, and what of before a reader may still be shown."""

    def __init__(self) -> None:
        self.now: dict[str, bytes] = {}
        self._tags: dict[str, str] = {}
        self._before: dict[str, list[tuple[float, bytes | None]]] = {}

    def written(self, key: str, body: bytes | None, tag: str) -> None:
        """Through us: nothing of before may be seen any more."""
        self._before.pop(key, None)
        self._put(key, body, tag)

    def changed(self, key: str, body: bytes | None, tag: str, at_s: float) -> None:
        """At the store: what was there may be seen until the mount's freshness has passed."""
        self._before.setdefault(key, []).append((at_s, self.now.get(key)))
        self._put(key, body, tag)

    def tag(self, key: str) -> str:
        """The entity tag that the store has for the object."""
        return self._tags.get(key, ABSENT)

    def may_show(self, key: str, now_s: float) -> set[bytes | None]:
        before = [(at_s, body) for at_s, body in self._before.get(key, ()) if now_s - at_s <= FRESHNESS_S]
        self._before[key] = before
        return {self.now.get(key), *(body for _, body in before)}

    def _put(self, key: str, body: bytes | None, tag: str) -> None:
        self.now.pop(key, None)
        self._tags.pop(key, None)
        if body is not None:
            self.now[key], self._tags[key] = body, tag


class History:
    """`play` takes the steps that the seed chooses. With `back`, the store may be away for many of them."""

    def __init__(self, seed: int, home: Path, *, back: bool) -> None:
        self.random = random.Random(seed)
        self.home = home
        self.clock = ManualClock()
        self.memory = MemoryStore(min_part_bytes=1)
        self.faulty = FaultyStore(self.memory)
        self.model = Model()
        self.back = back
        self.armed = False
        self.taken: list[str] = []
        """The steps until now, the last one under way."""
        self._inner = RetryStore(self.faulty, SystemClock(), deadline_s=5.0, settings=_RETRY)
        self._uploads: list[tuple[Upload, dict[int, tuple[bytes, Part]]]] = []
        self._count = 0
        self._away = False
        self._queues: dict[str, list[bytes | None]] = {}
        self._bases: dict[str, str] = {}
        self._beside: list[bytes] = []
        self._processes = [self._opened(), self._opened()]

    def _opened(self) -> Process:
        return Process(self.home, self._inner, self.clock, self.model.tag if self.back else None)

    @property
    def steps(self) -> list[tuple[int, Callable[[], Awaitable[None]]]]:
        """How often each is taken."""
        return [
            (20, self.read), (8, self.read_range), (6, self.info), (3, self.list), (14, self.put), (6, self.put_on_condition),
            (6, self.delete), (3, self.delete_on_condition), (4, self.copy), (4, self.begin_upload), (6, self.put_part),
            (4, self.complete_upload), (1, self.abort_upload), (10, self.others_change), (4, self.time_passes),
            (1, self.restart), (2, self.lose_a_page), (2 if self.back else 0, self.store_goes_away),
            (8 if self.back else 0, self.store_comes_back),
        ]  # fmt: skip

    async def play(self, count: int) -> None:
        weights, steps = zip(*self.steps, strict=True)
        try:
            for _ in range(count):
                step = self.random.choices(steps, weights)[0]
                self.taken.append(step.__name__)
                async with asyncio.timeout(STEP_DEADLINE_S):
                    await step()
            await self.store_comes_back()
        finally:
            for process in self._processes:
                await process.close()

    # --- what callers do

    async def read(self) -> None:
        key = self._key()
        known, got = await self._asked("read", key, self._read(key, None))
        assert not known or got in self._may_show(key), f"{key!r} shows {_short(got)}"

    async def read_range(self) -> None:
        key = self._key()
        allowed = self._may_show(key)
        longest = max(len(body or b"") for body in allowed)
        if longest < 2:
            return
        start = self.random.randrange(longest - 1)
        wish = ByteRange(start, start + self.random.randint(1, longest))
        try:
            known, got = await self._asked("read", key, self._read(key, wish))
        except InvalidRange:
            assert any(body is not None and len(body) <= start for body in allowed), f"{key!r} has no {wish}"
            return
        cuts = {None if body is None else body[wish.start : wish.end] for body in allowed}
        assert not known or got in cuts, f"{key!r} shows {_short(got)} at {wish}"

    async def info(self) -> None:
        key = self._key()
        known, found = await self._asked("info", key, self._store().info(key))
        sizes = {None if body is None else len(body) for body in self._may_show(key)}
        assert not known or (None if found is None else found.size) in sizes, f"{key!r} has {found}"

    async def list(self) -> None:
        known, found = await self._asked("list", "", self._listed(self.random.choice((1, 3, 1000))))
        assert not known or found == sorted(self.model.now, key=str.encode)

    async def put(self) -> None:
        key, body = self._key(), self._body()
        if self.back:
            await self._store().write(key, BytesBody(body))
            await self._staged(key, body)
        else:
            await self._change("write", key, body, lambda store: store.write(key, BytesBody(body)))

    async def delete(self) -> None:
        key = self._key()
        if self.back:
            await self._store().delete(key)
            await self._staged(key, None)
        else:
            await self._change("delete", key, None, lambda store: store.delete(key))

    async def put_on_condition(self) -> None:
        key, body = self._key(), self._body()
        condition = self._condition(key)
        await self._change("write", key, body, lambda store: store.write(key, BytesBody(body), condition=condition), condition)

    async def delete_on_condition(self) -> None:
        key = self._key()
        condition = Condition(if_match=self._etag(key) if self.random.random() < 0.6 else "other")
        if key in self.model.now:
            await self._change("delete", key, None, lambda store: store.delete(key, condition=condition), condition)

    async def copy(self) -> None:
        source, key = self.random.sample(KEYS, 2)
        found = self.memory.current(source)
        if found is not None:
            await self._change("copy", key, self.model.now[source], lambda store: store.copy(found, key))

    async def begin_upload(self) -> None:
        if len(self._uploads) < UPLOADS_MAX and not self._away:
            self._uploads.append((await self._store().multipart().begin(self._key()), {}))

    async def put_part(self) -> None:
        if not self._uploads or self._away:
            return
        (upload, parts), number = self.random.choice(self._uploads), self.random.randint(1, 3)
        body = self._body()
        # While its outcome is not known, the part is none that may be named.
        parts.pop(number, None)
        known, part = await self._asked("put_part", upload.key, self._store().multipart().put(upload, number, BytesBody(body)))
        if known:
            assert part is not None
            parts[number] = body, part

    async def complete_upload(self) -> None:
        ready = [entry for entry in self._uploads if entry[1]]
        if not ready:
            return
        upload, parts = entry = self.random.choice(ready)
        named = [parts[number] for number in sorted(parts)]
        body, numbered = b"".join(piece for piece, _ in named), tuple(part for _, part in named)
        condition = self._condition(upload.key) if self.random.random() < 0.4 else ALWAYS
        done = await self._change(
            "complete_upload", upload.key, body,
            lambda store: store.multipart().complete(upload, numbered, condition=condition), condition,
        )  # fmt: skip
        if done:
            self._uploads.remove(entry)

    async def abort_upload(self) -> None:
        if self._uploads and not self._away:
            await self._store().multipart().abort(self._uploads.pop()[0])

    # What others, time and the machine do.

    async def others_change(self) -> None:
        key = self._key()
        body = None if self.random.random() < 0.3 else b"theirs " + self._body()
        if body is not None:
            self.memory.put(key, body)
        elif key in self.model.now:
            self.memory.remove(key)
        self.model.changed(key, body, self._etag(key), self.clock.monotonic())

    async def time_passes(self) -> None:
        self.clock.advance(self.random.choice((0.1, 0.5, 1.0, 2.5)))

    async def restart(self) -> None:
        for which in self.random.choice(((0,), (1,), (0, 1))):
            await self._processes[which].close()
            self._processes[which] = self._opened()

    async def lose_a_page(self) -> None:
        """A page's file goes, or has other bytes."""
        folders = sorted(path for path in (self.home / "pages").iterdir() if len(path.name) == _FOLDER_CHARS)
        folder = self.random.choice(folders) if folders else self.home
        files = sorted(path for path in folder.iterdir() if parse_segment(path.name) is not None)
        if files:
            victim = self.random.choice(files)
            if self.random.random() < 0.5:
                victim.unlink(missing_ok=True)
            else:
                victim.write_bytes(self.random.randbytes(victim.stat().st_size))

    async def store_goes_away(self) -> None:
        if not self._away:
            self._away = True
            self.faulty.add(Fault(verb="*", times=-1, error=Unavailable("away")))

    async def store_comes_back(self) -> None:
        if not self._away:
            return
        self._away = False
        self.faulty.heal()
        await self._drained("", below=True)
        for key, queue in self._queues.items():
            self._uploaded(key, queue, self._bases[key])
        self._queues.clear()
        self._bases.clear()
        kept = [
            entry.key for entry in (await self.memory.list()).entries if isinstance(entry, ObjectInfo) and _is_kept(entry.key)
        ]
        assert sorted(self.memory.body(key) for key in kept) == sorted(self._beside)
        for key in kept:
            self.memory.remove(key)
        self._beside.clear()
        for key in KEYS:
            assert self._at_store(key) == self.model.now.get(key), f"{key!r} came out as {_short(self._at_store(key))}"

    def _uploaded(self, key: str, queue: Sequence[bytes | None], base: str) -> None:
        """What comes of writes that waited: each replaces what it was made for, or is kept beside another's."""
        for body in queue:
            now = self.model.tag(key)
            if body is None and now == ABSENT:
                base = ABSENT
                continue
            if now == base:
                self.model.written(key, body, etag(body))
            elif body is not None:
                self._beside.append(body)
            base = etag(body)

    # How it is held against the model.

    def _key(self) -> str:
        return self.random.choice(KEYS)

    def _body(self) -> bytes:
        self._count += 1
        return b"%d " % self._count + self.random.randbytes(self.random.choice(SIZES))

    def _store(self) -> Store:
        return self.random.choice(self._processes).store

    def _etag(self, key: str) -> str:
        found = self.memory.current(key)
        return found.etag if found is not None else "other"

    def _condition(self, key: str) -> Condition:
        return self.random.choice(
            (
                Condition(if_none_match="*"),
                Condition(if_match=self._etag(key)),
                Condition(if_match="other"),
                Condition(if_match="*"),
            )
        )

    def _at_store(self, key: str) -> bytes | None:
        return None if self.memory.current(key) is None else self.memory.body(key)

    def _may_show(self, key: str) -> set[bytes | None]:
        if key in self._queues:
            return {self._queues[key][-1]}
        return self.model.may_show(key, self.clock.monotonic())

    async def _read(self, key: str, wish: ByteRange | None) -> bytes:
        return await body_of(await self._store().read(key, wish))

    async def _listed(self, limit: int) -> list[str]:
        after: str | None = ""
        found: list[str] = []
        while after is not None:
            page = await self._store().list(after=after, limit=limit)
            found += [entry.key for entry in page.entries if isinstance(entry, ObjectInfo)]
            after = page.after
        return found

    async def _asked(self, verb: str, key: str, call: Coroutine[Any, Any, T]) -> tuple[bool, T | None]:
        """Whether there was an answer, which only a fault may keep away, and the answer; None: there is no such object."""
        with self._faults(verb, key):
            try:
                return True, await call
            except NotFound:
                return True, None
            except VersionChanged:
                # Only an older object that may still be shown, of which not all is at hand any more: an error, never a blend.
                older = self._may_show(key) - {None, self.model.now.get(key)}
                assert older, f"{verb} of {key!r} says that it changed, and nobody changed it"
            except (Unavailable, CorruptData):
                assert self.armed or self._away
        return False, None

    async def _change(
        self, verb: str, key: str, body: bytes | None, call: Callable[[Store], Awaitable[object]], condition: Condition = ALWAYS
    ) -> bool:
        """A write that the store decides on. Whether it happened, which must be what its caller was told."""
        if self._away:
            return False
        holds, before = condition.holds(self.memory.current(key)), self._at_store(key)
        with self._faults(verb, key):
            try:
                await call(self._store())
                happened = True
                assert holds, f"{verb} of {key!r} was acknowledged against its condition"
            except (ConditionFailed, NotFound):
                happened = False
                assert not holds, f"{verb} of {key!r} was refused though its condition held"
            except Unavailable:
                assert self.armed
                happened = holds and self._at_store(key) == body != before
        if happened:
            self.model.written(key, body, self._etag(key))
        assert self._at_store(key) == self.model.now.get(key), f"{verb} left {_short(self._at_store(key))} at {key!r}"
        return happened

    async def _staged(self, key: str, body: bytes | None) -> None:
        """A write was acknowledged by the journal."""
        if self._away:
            self._bases.setdefault(key, self.model.tag(key))
            self._queues.setdefault(key, []).append(body)
            return
        with self._faults("delete" if body is None else "write", key):
            await self._drained(key)
        self.model.written(key, body, etag(body))
        assert self._at_store(key) == body

    async def _drained(self, key: str, *, below: bool = False) -> None:
        staged = [process.staged for process in self._processes if process.staged is not None]
        while staged[0].standing("" if below else key).writes:
            for process in staged:
                process.retry_now()
            await asyncio.sleep(0.001)

    @contextmanager
    def _faults(self, verb: str, key: str) -> Iterator[None]:
        """Now and then the store fails meanwhile: once, so that trying again helps, or for longer."""
        self.armed = not self._away and self.random.random() < FAULTS_SHARE
        if self.armed:
            kinds = _CHANGING if verb in _CHANGED else _READING
            self.faulty.add(msgspec.structs.replace(self.random.choice(kinds), verb=verb, key=key))
        try:
            yield
        finally:
            if self.armed:
                self.faulty.heal()
            self.armed = False


_GONE = Unavailable("injected")
_CHANGED = ("write", "copy", "delete", "complete_upload", "put_part")
_READING = (
    Fault(error=_GONE), Fault(error=_GONE, times=9), Fault(cut_at=50), Fault(cut_at=6_000, times=9), Fault(extra=b"more"),
)  # fmt: skip
_CHANGING = (
    Fault(error=_GONE), Fault(error=_GONE, times=9), Fault(cut_at=50), Fault(lost_answer=_GONE),
    Fault(lost_answer=_GONE, times=9),
)  # fmt: skip


def _is_kept(key: str) -> bool:
    return ".conflict-" in key


def _short(body: bytes | None) -> str:
    return "nothing" if body is None else f"{len(body)} bytes {body[:40]!r}"


def _ignore(_event: object) -> None:
    """Events are nothing to these histories."""
