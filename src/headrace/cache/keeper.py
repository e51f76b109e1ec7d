"""The keeper of a page directory: accounts for its segments, and unlinks those that must go.

One process at a time, elected by a lock on `keeper.lock`. It learns from datagrams (`touches.py`), and from
looking at one folder after the other, so it needs no state of its own on disk and may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec

from headrace.cache.eviction import Eviction
from headrace.cache.folder import (
    ORPHAN_AGE_S,
    Folder,
    folders,
    ident_of,
    ident_of_file,
    look,
    name_of,
    object_of,
    remove_orphan,
    space,
)
from headrace.cache.layout import MOUNT_BYTES, SUM_SUFFIX, Geometry, Kind, SegmentName, parse_segment, pin_path, tag_of
from headrace.cache.touches import Batch, Group, TouchesListener
from headrace.model.clock import Clock
from headrace.model.events import BackgroundError, PagesDropped, TierFault
from headrace.model.objects import Emit

LOCK_NAME = "keeper.lock"
_HIGH, _LOW = 0.95, 0.90
"""Parts of the capacity: above the first one segments are let go until the second one is reached."""
_QUOTA_LOW = 0.95
_ROUND_S = 600.0
"""A round over all folders, and a second look at all that is accounted for, take so long."""
_TICK_S = 0.2
_SPACE_EVERY_S = 1.0
_BATCHES = 512
_UNLINKS = 256
_SWEEP = 4096
_ASKED = 8
_RESERVE_SHARE, _RESERVE_MAX_BYTES = 0.01, 256 << 20
_MAX_GROUPS = 60_000
_TAG_MASK = (1 << 8 * MOUNT_BYTES) - 1


class Chore(Protocol):
    """Work of bounded length on a folder that was just read (merging, scrubbing)."""

    def visit(self, folder: Folder, now: float) -> Iterator[Change]: ...


class Change(msgspec.Struct, frozen=True):
    """A chore's result: a segment appeared with `size` bytes, or went (`size` 0), for `reason`."""

    name: SegmentName
    size: int
    reason: str = ""


class KeeperStats(msgspec.Struct, frozen=True):
    """What the keeper knows. Bytes are disk space: each file's length, rounded up to blocks."""

    elected: bool
    complete: bool
    """Whether all folders were read since it was elected."""
    segments: int
    bytes: int
    pinned_bytes: int
    capacity: int
    dropped_segments: int
    dropped_bytes: int
    age_s: float
    """Seconds since its loop last went round; large when it hangs."""


@dataclass(frozen=True, slots=True)
class Space:
    """Free bytes and inodes of a file system, and how many bytes should stay free."""

    free_bytes: int
    free_inodes: int
    reserve_bytes: int

    @classmethod
    def of(cls, root: str) -> Space:
        """As the system tells it. Raises `OSError`."""
        status = os.statvfs(root)
        reserve = min(int(status.f_blocks * status.f_frsize * _RESERVE_SHARE), _RESERVE_MAX_BYTES)
        return cls(status.f_bavail * status.f_frsize, status.f_favail or status.f_files or 1 << 30, reserve)


class Keeper:
    """Keeps one page directory below `capacity` bytes. `run` in a thread or as a process's only work."""

    def __init__(
        self,
        root: str,
        capacity: int,
        geometry: Geometry,
        *,
        clock: Clock,
        emit: Emit,
        chores: Sequence[Chore] = (),
        measure: Callable[[str], Space] = Space.of,
    ) -> None:
        self._root = root
        self._capacity = capacity
        self._geometry = geometry
        self._clock = clock
        self._emit = emit
        self._chores = chores
        self._measure = measure
        self._entries = Eviction()
        self._groups: dict[bytes, int] = {}
        self._bounds: dict[int, Group] = {}
        self._elected = self._complete = False
        self._dropped = [0, 0]
        self._round_at = clock.monotonic()
        self._space_at = 0.0
        self._fault_at = float("-inf")
        self._walk: Iterator[str] = iter(())
        self._debt = 0.0

    def run(self, stop: threading.Event) -> None:
        """Wait to be elected, then keep, until `stop`. Survives errors of its own; each is an event."""
        while not stop.is_set():
            try:
                with self._election() as elected:
                    if elected:
                        self._keep(stop)
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever one round does
                self._emit(BackgroundError("keeper", f"{type(error).__name__}: {error}"))
            self._elected = False
            self._round_at = self._clock.monotonic()
            stop.wait(1.0)

    def stats(self) -> KeeperStats:
        """May be called from any thread."""
        entries = self._entries
        return KeeperStats(
            self._elected,
            self._complete,
            len(entries),
            entries.bytes,
            entries.pinned_bytes,
            self._capacity,
            self._dropped[0],
            self._dropped[1],
            self._clock.monotonic() - self._round_at,
        )

    @contextlib.contextmanager
    def _election(self) -> Iterator[bool]:
        fd = os.open(f"{self._root}/{LOCK_NAME}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            yield False
            return
        try:
            yield True
        finally:
            os.close(fd)

    def _keep(self, stop: threading.Event) -> None:
        self._entries, self._complete, self._elected = Eviction(), False, True
        listener = TouchesListener(self._root)
        try:
            for path in folders(self._root):
                if stop.is_set():
                    return
                self._visit(path, settled=True)
                self._hear(listener)
                self._bound()
            self._complete = True
            before = self._clock.monotonic()
            while not stop.is_set():
                select.select([listener], [], [], _TICK_S)
                self._hear(listener)
                self._bound()
                self._expire()
                now = self._clock.monotonic()
                self._go_round(now - before)
                before = now
                self._round_at = now
                # Datagrams gather meanwhile: a busy node costs the keeper a wake-up a tick, not one a datagram.
                stop.wait(_TICK_S / 4)
        finally:
            listener.close()

    def _hear(self, listener: TouchesListener) -> None:
        now = int(self._clock.time())
        for _ in range(_BATCHES):
            batch = listener.receive()
            if batch is None:
                return
            self._learn(batch, now)

    def _learn(self, batch: Batch, now: int) -> None:
        group = self._group(batch.group.tag)
        self._bounds[group] = batch.group
        for segment in batch.created:
            ident = ident_of_file(segment.name)
            if ident is None or segment.size < 0:
                continue
            group = self._group_of(object_of(ident))
            self._entries.inserted(ident, space(segment.size), group=group, now=now)
        for text in batch.touched:
            ident = ident_of_file(text)
            if ident is not None:
                self._entries.touched(ident, now=now)
        for text in batch.removed:
            name = parse_segment(text)
            if name is not None and not self._exists(name):
                self._entries.removed(ident_of(name))

    def _group(self, tag: bytes) -> int:
        group = self._groups.get(tag)
        if group is None:
            group = self._groups[tag] = min(len(self._groups) + 1, _MAX_GROUPS)
        return group

    def _group_of(self, named: int) -> int:
        return self._group((named & _TAG_MASK).to_bytes(MOUNT_BYTES, "big"))

    def _visit(self, path: str, *, settled: bool) -> None:
        now = self._clock.time()
        try:
            # After a crash nobody leads the fills that lie about; those that somebody does lead are locked.
            folder = look(path, self._geometry, now, part_age_s=0.0 if settled else ORPHAN_AGE_S)
        except FileNotFoundError:
            return
        entries, seen_s = self._entries, int(now)
        for found in folder.segments:
            ident, named = found.ident, object_of(found.ident)
            group = self._group_of(named)
            entries.inserted(ident, space(found.size), group=group, now=found.used_s if settled else seen_s, settled=settled)
            if folder.pinned or not settled:
                entries.pinned(ident, pinned=named in folder.pinned)
        for name in folder.bad:
            self._unlink(name)
        self._tell("corrupt", len(folder.bad), len(folder.bad), 0)
        for orphan in folder.orphans:
            remove_orphan(orphan)
        if not settled:
            for chore in self._chores:
                for change in chore.visit(folder, self._clock.monotonic()):
                    self._apply(change, int(now))
        self._round_at = self._clock.monotonic()

    def _apply(self, change: Change, now: int) -> None:
        ident = ident_of(change.name)
        if change.size:
            self._entries.inserted(ident, space(change.size), group=self._group(tag_of(change.name.object_id)), now=now)
            self._entries.touched(ident, now=now)
            return
        freed = self._entries.removed(ident)
        if change.reason:
            self._tell(change.reason, 1, self._pages(change.name, freed), freed)

    def _bound(self) -> None:
        """Let go what is over the capacity, over a quota, or more than the device has room for."""
        used = self._entries.bytes
        if used > _HIGH * self._capacity:
            self._let_go("evicted", self._entries.evict, used - int(_LOW * self._capacity))
        for group, bounds in self._bounds.items():
            used = self._entries.group_bytes(group)
            if bounds.quota_bytes and used > bounds.quota_bytes:
                over = used - int(_QUOTA_LOW * bounds.quota_bytes)
                self._let_go("quota", partial(self._entries.evict_group, group), over)
        now = self._clock.monotonic()
        if now < self._space_at:
            return
        self._space_at = now + _SPACE_EVERY_S
        have = self._measure(self._root)
        if have.free_bytes < have.reserve_bytes:
            self._let_go("evicted", self._entries.evict, have.reserve_bytes - have.free_bytes)
        elif have.free_inodes < _UNLINKS:
            self._let_go("evicted", self._entries.evict, self._entries.bytes // 20)

    def _let_go(self, reason: str, choose: Callable[[int], list[int]], need: int) -> None:
        while need > 0:
            victims = choose(min(need, max(need // 16, 64 << 20)))
            if not victims:
                return
            need -= self._unlink_all(reason, victims)
            self._round_at = self._clock.monotonic()

    def _unlink_all(self, reason: str, idents: list[int]) -> int:
        """Unlink what the policy gave up, except what was pinned meanwhile; answers the space that it took."""
        freed = gone = pages = 0
        for ident in idents:
            name = name_of(ident)
            path = f"{self._root}/{name.path}"
            try:
                size = space(os.lstat(path).st_size)
            except OSError:
                continue
            if os.path.lexists(f"{self._root}/{pin_path(name.object_id)}"):  # plain paths: many times a second
                self._entries.inserted(ident, size, group=self._group(tag_of(name.object_id)), settled=True)
                self._entries.pinned(ident, pinned=True)
            elif self._unlink(name):
                freed += size
                gone += 1
                pages += self._pages(name, size)
        self._tell(reason, gone, pages, freed)
        return max(freed, 1)

    def _unlink(self, name: SegmentName) -> bool:
        path = f"{self._root}/{name.path}"
        try:
            try:
                os.unlink(path)  # noqa: PTH108
            except IsADirectoryError:
                shutil.rmtree(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + SUM_SUFFIX)  # noqa: PTH108
        except FileNotFoundError:
            return False
        except OSError as error:
            self._fault(error)
            return False
        self._entries.removed(ident_of(name))
        return True

    def _fault(self, error: OSError) -> None:
        now = self._clock.monotonic()
        if now - self._fault_at < 60.0:
            return
        self._fault_at = now
        remedy = f"{self._root} may grow over its capacity: make it writable for this user, check the device"
        self._emit(TierFault("disk", "unlink", f"{type(error).__name__}: {error}", remedy))

    def _pages(self, name: SegmentName, size: int) -> int:
        return 1 if name.kind is Kind.PAGE else max(1, size // self._geometry.page)

    def _tell(self, reason: str, segments: int, pages: int, size: int) -> None:
        if segments:
            self._dropped[0] += segments
            self._dropped[1] += size
            self._emit(PagesDropped("disk", reason, pages, size))

    def _expire(self) -> None:
        now = int(self._clock.time())
        before = {group: int(now - bounds.ttl_s) for group, bounds in self._bounds.items() if bounds.ttl_s}
        if before:
            self._unlink_all("expired", self._entries.expired(before, steps=_SWEEP))

    def _go_round(self, passed_s: float) -> None:
        """Read a few more folders, and ask for a few of the accounted segments whether they still exist."""
        self._debt = min(self._debt + passed_s / _ROUND_S, 0.01)
        total = len(self._entries)
        for ident in self._entries.sample(int(total * self._debt) + _ASKED):
            if not self._exists(name_of(ident)):
                self._entries.removed(ident)
        for _ in range(int(4096 * self._debt)):
            path = next(self._walk, None)
            if path is None:
                self._walk = iter(folders(self._root))
                break
            self._visit(path, settled=False)
        self._debt -= int(4096 * self._debt) / 4096

    def _exists(self, name: SegmentName) -> bool:
        return os.path.lexists(f"{self._root}/{name.path}")  # plain paths: many times a second


def run_in_thread(keeper: Keeper, stop: threading.Event) -> threading.Thread:
    """For processes without a keeper beside them: it is elected when no other one is."""
    thread = threading.Thread(target=keeper.run, args=(stop,), name="headrace-keeper", daemon=True)
    thread.start()
    return thread
