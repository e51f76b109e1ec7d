"""The only place that builds objects: settings and specs in, stores, cache and namespaces out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.cache.arena import MemoryTier
from headrace.cache.layout import mount_tag
from headrace.cache.locking import lock_process_memory, require_locked_memory
from headrace.cache.manage import free_mount
from headrace.cache.marks import Marks
from headrace.cache.pages import PageCache
from headrace.cache.past import PastCache
from headrace.cache.settings import CacheSettings
from headrace.cache.snapshot import sweep
from headrace.cache.store import CachedStore, CacheOptions
from headrace.cache.touches import Group
from headrace.cache.writes import CacheWrites
from headrace.model.clock import Clock
from headrace.model.disk import SystemDisk
from headrace.model.errors import HeadraceError, NotFound, ResidencyRefused, SettingsError, Unsupported
from headrace.model.mounts import Freshness, MountSpec, Residency, WriteMode
from headrace.model.objects import ByteRange, Emit, ObjectInfo
from headrace.model.units import parse_duration, parse_size
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.namespace.union import UnionStore
from headrace.scratch.settings import ScratchSettings
from headrace.scratch.store import ScratchFolder, ScratchStore
from headrace.staging.journal import Journal
from headrace.staging.records import ABSENT, UNKNOWN
from headrace.staging.settings import StagingSettings
from headrace.staging.store import StagedStore
from headrace.stores.keys import PROOF_NAME
from headrace.stores.limit import LimitStore
from headrace.stores.registry import open_store
from headrace.stores.retry import RetrySettings, RetryStore
from headrace.stores.store import Store
from headrace.stores.trace import TraceStore
from headrace.stores.unserved import UnservedStore
from headrace.stores.urls import shown_url

_log = logging.getLogger(__name__)

_MARKS_NAME = "run/marks"
_LISTINGS_NAME = "listings"
_RETIRE_AFTER_S = 60.0
_NOBODY = f"{PROOF_NAME}{0:016x}"
_REMOVE_TRIES = 10
_AGAIN_S = 5.0
_PAGES_AT_ONCE = 4
_BEGIN_ANYWHERE = ("s3://", "gs://")
"""Stores that list from behind any key as fast as they go on; a directory would be scanned anew, Azure only goes on."""


@dataclass(frozen=True, slots=True)
class Journals:
    """Where writes wait that are acknowledged before their store has them."""

    root: Path
    settings: StagingSettings

    def of(self, mount: str) -> str:
        """The directory of a mount's journal."""
        return str(self.root / hashlib.blake2b(mount.encode(), digest_size=12).hexdigest())


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where writes lie that their store never gets."""

    root: Path
    settings: ScratchSettings

    def of(self, mount: str, place: str) -> Path:
        """The directory of a mount's scratch: another store's is another."""
        return self.root / hashlib.blake2b(f"{mount}\n{place}".encode(), digest_size=12).hexdigest()

    def of_mounts(self, specs: Iterable[MountSpec]) -> set[Path]:
        """The directories of all mounts with scratch."""
        members = [(spec.path, member) for spec in specs for member in spec.union or (spec,)]
        return {self.of(path, _place(member)) for path, member in members if member.write is WriteMode.SCRATCH}


@dataclass(frozen=True, slots=True)
class Parts:
    """What every store of a process is built from. Without `pages` nothing is cached.

    `marks` are those of the node; None: no other process needs to know what this one writes. Without `journals` no mount
    can have `write = "back"`, without `scratch` none `write = "scratch"`. `listings` is where surveys keep what they have listed,
    swept with each change of mounts; None: not this process's business.
    """

    clock: Clock
    emit: Emit
    environ: Mapping[str, str]
    pages: PageCache | None = None
    marks: Marks | None = None
    journals: Journals | None = None
    scratch: Scratch | None = None
    listings: Path | None = None


def build_store(spec: MountSpec, parts: Parts, *, mount: str = "") -> Store:
    """The store that a mount reads through. Raises `SettingsError` or `ResidencyRefused`.

    From the caller inwards: cache, retries with a deadline, limits, a trace of every request, the store itself.
    """
    mount = mount or spec.path
    if spec.union:
        target = spec.union[spec.write_target]
        written = (
            msgspec.structs.replace(member, write=spec.write if member is target else WriteMode.NONE) for member in spec.union
        )
        members = tuple(build_store(member, parts, mount=mount) for member in written)
        return UnionStore(members, write_target=spec.write_target)
    if spec.residency is Residency.MEMORY:
        lock_process_memory()
        require_locked_memory()
    store = bare_store(spec, parts, mount=mount)
    if parts.pages is None:
        return store
    options = CacheOptions(
        mount=mount,
        identity=spec.identity(),
        place=_place(spec),
        freshness=Freshness.parse(spec.freshness),
        residency=spec.residency,
        serve_stale=spec.serve_stale,
        quota_bytes=parse_size(spec.quota) if spec.quota else None,
        ttl_s=parse_duration(spec.ttl) if spec.ttl else None,
        pages_at_once=_PAGES_AT_ONCE if spec.store.startswith(_BEGIN_ANYWHERE) else 1,
    )
    if spec.write is not WriteMode.BACK and parts.journals is not None:
        _check_nothing_staged(parts.journals.of(mount), mount)
    cached = CachedStore(store, parts.pages, options, clock=parts.clock, emit=parts.emit, marks=parts.marks)
    if spec.write is WriteMode.NONE:
        return cached
    if spec.write is WriteMode.SCRATCH:
        return _scratch(spec, cached, parts, mount=mount)
    writes = CacheWrites(cached)
    return _staged(spec, writes, store, parts, mount=mount) if spec.write is WriteMode.BACK else writes


def _staged(spec: MountSpec, writes: CacheWrites, asked: Store, parts: Parts, *, mount: str) -> Store:
    """Write-back over `writes`. Raises `SettingsError` where nothing can be promised, `ResidencyRefused` off the disks."""
    if parts.journals is None:
        raise SettingsError(f'{mount}: write = "back" needs a node: start one with `headrace up`', path=mount)
    if spec.residency is not Residency.DISK:
        raise ResidencyRefused(
            f'{mount}: write = "back" keeps writes on a disk, which residency = "{spec.residency}" forbids: write "through"',
            path=mount,
        )
    journal = Journal(parts.journals.of(mount), SystemDisk())
    journal.belongs_to(_place(spec))
    with contextlib.suppress(OSError):
        journal.of_mount(mount)

    def last_seen(key: str) -> str:
        known = writes.cached.knowledge.fresh(key)
        if known is None:
            return UNKNOWN
        return ABSENT if known.info is None else known.info.etag or UNKNOWN

    return StagedStore(
        writes, asked, journal, parts.journals.settings, mount=mount, clock=parts.clock, emit=parts.emit, last_seen=last_seen
    )


def _scratch(spec: MountSpec, cached: CachedStore, parts: Parts, *, mount: str) -> Store:
    """Scratch over what the store has. Raises `SettingsError`, `ResidencyRefused` off the disks."""
    if parts.scratch is None:
        raise SettingsError(f'{mount}: write = "scratch" needs a node: start one with `headrace up`', path=mount)
    if spec.residency is not Residency.DISK:
        raise ResidencyRefused(
            f'{mount}: write = "scratch" keeps writes on a disk, which residency = "{spec.residency}" forbids', path=mount
        )
    place = _place(spec)
    folder = ScratchFolder(
        str(parts.scratch.of(mount, place)), parts.scratch.settings.capacity_bytes, f"{mount}\n{shown_url(spec.store)}"
    )
    return ScratchStore(cached, folder, mount=mount, emit=parts.emit, ttl_s=parse_duration(spec.ttl) if spec.ttl else None)


def _check_nothing_staged(root: str, mount: str) -> None:
    """Writes that an earlier write-back left are not forgotten because the mount is another now. Raises `SettingsError`."""
    if not Path(root).exists():
        return
    journal = Journal(root, SystemDisk())
    try:
        waiting = len(journal.backlog)
    finally:
        journal.close()
    if waiting:
        raise SettingsError(
            f'{waiting} writes to {mount} have not reached its store yet: set write = "back" again until '
            f"`headrace sync --wait {mount}` has brought them there",
            path=mount,
        )


def _place(spec: MountSpec) -> str:
    """Where a store's keys begin, alike for every mount of it: a prefix and the key behind it make one text."""
    return f"{spec.endpoint}\n{spec.store if spec.store.endswith('/') else spec.store + '/'}"


def bare_store(spec: MountSpec, parts: Parts, *, mount: str, retry: RetrySettings | None = None) -> Store:
    """The same without the cache: what a mount is tried with."""
    store = TraceStore(open_store(spec, clock=parts.clock, environ=parts.environ), mount, parts.emit, parts.clock)
    limited = LimitStore(
        store,
        parts.clock,
        max_concurrent=spec.max_connections,
        bytes_per_s=parse_size(spec.bandwidth) if spec.bandwidth else None,
    )
    return RetryStore(limited, parts.clock, deadline_s=parse_duration(spec.timeout), settings=retry)


class LiveMounts:
    """The namespace of one process, following the mounts in force.

    A mount that did not change keeps its store. One that cannot be built refuses everything in its place, so that neither
    it takes the others away nor the mount above it answers for it; it is tried again and again.
    """

    def __init__(self, parts: Parts) -> None:
        self.namespace = Namespace()
        self.failed: dict[str, HeadraceError] = {}
        self._parts = parts
        self._retiring: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._specs: tuple[MountSpec, ...] = ()
        self._again: asyncio.Task[None] | None = None

    async def apply(self, specs: Iterable[MountSpec]) -> None:
        """Bring `specs` into force between two requests.

        Returns when no page lies on a disk any more of a mount that may not have any there now; raises `OSError`
        when it cannot be removed.
        """
        async with self._changing:
            self._specs = tuple(specs)
            try:
                await self._apply(self._specs)
            finally:
                if self.failed and self._again is None:
                    self._again = asyncio.ensure_future(self._try_again())
            if self._parts.listings is not None:
                await asyncio.to_thread(sweep, self._parts.listings, [spec.identity() for spec in _on_disks(self._specs)])

    async def _try_again(self) -> None:
        """Build what could not be built, until all of it is: a file of keys appears, a limit is raised."""
        while self.failed:
            await asyncio.sleep(_AGAIN_S)
            async with self._changing:
                try:
                    await self._apply(self._specs)
                except (HeadraceError, OSError) as error:
                    _log.warning("mounts that are not served could not be tried again: %s", error)
        self._again = None

    async def _apply(self, specs: Iterable[MountSpec]) -> None:
        before = {mount.path: mount for mount in self.namespace.table.mounts}
        old = dict(before)
        mounts: list[Mount] = []
        failed: dict[str, HeadraceError] = {}
        for spec in specs:
            kept = old.get(spec.path)
            unserved = kept.store if kept is not None and isinstance(kept.store, UnservedStore) else None
            if kept is not None and kept.spec == spec and unserved is None:
                mounts.append(old.pop(spec.path))
                continue
            try:
                # Before anything else can be refused: what may not lie on a disk any more goes in any case.
                await _forget_disk_time(spec, self._parts)
                mounts.append(mount := Mount(spec.path, spec, build_store(spec, self._parts)))
            except HeadraceError as error:
                failed[spec.path] = error
                if kept is not None and kept.spec == spec and unserved is not None:
                    unserved.error = error
                    mounts.append(old.pop(spec.path))
                else:
                    mounts.append(Mount(spec.path, spec, UnservedStore(spec.path, error)))
                continue
            for staged in staging_of(mount.store):
                staged.start()
            for scratch in scratch_of(mount.store):
                scratch.start()
        self.failed = failed
        if not old and len(mounts) == len(before) and all(before.get(mount.path) is mount for mount in mounts):
            return
        self.namespace.table = table = MountTable(mounts)
        for mount in old.values():
            now = table.find(mount.path)
            if now is not None and now.path == mount.path:
                await _leave_disks(mount, now)
            task = asyncio.ensure_future(_retire(mount.store))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def changed(self, objects: Iterable[tuple[str, str]]) -> None:
        """Objects of S3 stores, by bucket and key, are no longer what they were: no process uses what it knew of them."""
        marks = self._parts.marks
        if marks is None:
            return
        mounted = [member for mount in self.namespace.table.mounts for member in mount.spec.union or (mount.spec,)]
        places = {msgspec.structs.replace(spec, store="s3://") for spec in mounted if spec.store.startswith("s3://")}
        roots = {_place(place) for place in places}
        for bucket, key in objects:
            for root in roots:
                marks.set(marks.slot(root, f"{bucket}/{key}"))

    def changes_missed(self) -> None:
        """No process uses anything that it knew."""
        if self._parts.marks is not None:
            self._parts.marks.set_all()

    async def close(self) -> None:
        for task in (*self._retiring, *filter(None, (self._again,))):
            task.cancel()
        await asyncio.gather(*(mount.store.close() for mount in self.namespace.table.mounts), return_exceptions=True)


def _on_disks(specs: Iterable[MountSpec]) -> list[MountSpec]:
    """What is mounted and may be kept on disks, members of unions by themselves."""
    members = (member for spec in specs for member in spec.union or (spec,))
    return [member for member in members if member.residency is Residency.DISK]


async def _leave_disks(old: Mount, new: Mount) -> None:
    """Residency was narrowed: what the mount kept on disks goes before anybody is told that it is so."""
    stays = {member.store for member in new.spec.union or (new.spec,) if member.residency is Residency.DISK}
    for member, store in zip(old.spec.union or (old.spec,), caches_of(old.store), strict=False):
        if member.residency is Residency.DISK and member.store not in stays:
            await store.leave_disks()


async def _forget_disk_time(spec: MountSpec, parts: Parts) -> None:
    """Remove what a memory-only mount left on disks when settings still allowed it, before it is served."""
    for member in spec.union or (spec,):
        if member.residency is not Residency.MEMORY:
            continue
        if parts.pages is not None:
            tag = mount_tag(msgspec.structs.replace(member, residency=Residency.DISK).identity())
            await free_mount(parts.pages, tag, Group(tag))
        if parts.scratch is not None and (folder := parts.scratch.of(spec.path, _place(member))).exists():
            await asyncio.to_thread(_remove_all, folder)


def _remove_all(folder: Path) -> None:
    """Raises `ResidencyRefused` for what cannot be removed. Several processes may be at it."""
    for _ in range(_REMOVE_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
    raise ResidencyRefused(f"{folder} holds scratch of a mount that is memory-only now, and cannot be removed: remove it")


def caches_of(store: Store) -> tuple[CachedStore, ...]:
    """The cached stores behind a mount: itself, or a union's members."""
    if isinstance(store, CachedStore):
        return (store,)
    if isinstance(store, CacheWrites):
        return (store.cached,)
    if isinstance(store, StagedStore | ScratchStore):
        return caches_of(store.inner)
    if isinstance(store, UnionStore):
        return tuple(cached for member in store.members for cached in caches_of(member))
    return ()


def staging_of(store: Store) -> tuple[StagedStore, ...]:
    """The journals behind a mount: its own, or its write target's."""
    if isinstance(store, StagedStore):
        return (store,)
    if isinstance(store, UnionStore):
        return tuple(staged for member in store.members for staged in staging_of(member))
    return ()


def scratch_of(store: Store) -> tuple[ScratchStore, ...]:
    """The scratch of a mount: its own, or its write target's."""
    if isinstance(store, ScratchStore):
        return (store,)
    if isinstance(store, UnionStore):
        return tuple(scratch for member in store.members for scratch in scratch_of(member))
    return ()


def past_cache(store: Store) -> Store:
    """The same objects for work that passes over everything once. What waits in a journal is seen through the journal."""
    if isinstance(store, (CachedStore, CacheWrites)):
        return PastCache(store if isinstance(store, CachedStore) else store.cached)
    if isinstance(store, UnionStore):
        target = store.members.index(store.write_target)
        return UnionStore(tuple([past_cache(member) for member in store.members]), write_target=target)
    return store


def void(store: Store, key: str) -> None:
    """What was known of a key of a `past_cache` store is void: the object was changed past it."""
    if isinstance(store, PastCache):
        store.replaced(key)


@dataclass(frozen=True, slots=True)
class JointPlaces:
    """Two mounts of one service under one identity: `origin` and `target` are what their keys begin with in `spec`'s store."""

    spec: MountSpec
    origin: str
    target: str

    @property
    def identity(self) -> str:
        return self.spec.identity()


def joint_places(origin: Mount, target: Mount) -> JointPlaces | None:
    """How both mounts are one store that copies by itself; None where they are not, or where that may not be."""
    one, other = origin.spec, target.spec
    if not isinstance(target.store, PastCache) or not (one.store.startswith("s3://") and other.store.startswith("s3://")):
        return None
    if (one.endpoint.rstrip("/"), one.credentials, one.region) != (other.endpoint.rstrip("/"), other.credentials, other.region):
        return None
    return JointPlaces(msgspec.structs.replace(other, store="s3://"), _beginning(one), _beginning(other))


def _beginning(spec: MountSpec) -> str:
    place = spec.store.removeprefix("s3://").strip("/")
    return f"{place}/" if place else ""


def joint_store(places: JointPlaces, parts: Parts) -> Store:
    """The account that both are parts of, without a cache."""
    return bare_store(places.spec, parts, mount=places.spec.path)


async def _retire(store: Store) -> None:
    """Readings that began before a change of mounts may finish."""
    try:
        await asyncio.sleep(_RETIRE_AFTER_S)
    finally:
        await store.close()


async def try_mount(spec: MountSpec, parts: Parts) -> bool:
    """List and read a little through `spec`; whether anything is there. Raises the error that says what is wrong."""
    if spec.union:
        return any([await _try_member(member, number, parts) for number, member in enumerate(spec.union)])
    if spec.residency is Residency.MEMORY:
        lock_process_memory()
        require_locked_memory()
    Freshness.parse(spec.freshness)
    store = bare_store(spec, parts, mount=spec.path)
    try:
        try:
            page = await store.list(limit=20)
        except Unsupported:
            if spec.index_pages:
                raise
            with contextlib.suppress(NotFound, Unsupported):
                await store.info(_NOBODY)  # what cannot be listed can be asked for a key
            return True
        found = next((entry for entry in page.entries if isinstance(entry, ObjectInfo) and entry.size), None)
        if found is not None:
            await _read_one_byte(store, found)
        return bool(page.entries)
    finally:
        await store.close()


async def _try_member(member: MountSpec, number: int, parts: Parts) -> bool:
    try:
        return await try_mount(member, parts)
    except HeadraceError as error:
        raise type(error)(f"union member {number} ({member.store}): {error}", path=error.path) from error


async def _read_one_byte(store: Store, info: ObjectInfo) -> None:
    try:
        reading = await store.read(info.key, ByteRange(0, 1))
    except NotFound:
        return  # removed since it was listed
    try:
        async for _ in reading:
            pass
    finally:
        await reading.aclose()


def open_pages(cache: CacheSettings, home: Path, *, clock: Clock, emit: Emit, memory_fd: int = -1) -> PageCache:
    """This process's view of the node's pages."""
    tier = MemoryTier.attach(memory_fd) if memory_fd >= 0 else None
    return PageCache.open(cache, home, clock=clock, emit=emit, memory_tier=tier)


def listings_in(home: Path) -> Path:
    """Where surveys keep what they have listed of mounts that may lie on disks."""
    return home / _LISTINGS_NAME


def open_marks(home: Path) -> Marks:
    """What the processes that share `home` tell each other about their writes. Raises `SettingsError`."""
    return Marks.open(home / _MARKS_NAME)
