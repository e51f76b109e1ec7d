"""The namespace inside a process that is no node: settings and the ledger's mounts in, one object that reads them out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from headrace.cache.handles import CachedObject
from headrace.cache.keeper import Keeper, run_in_thread
from headrace.cache.pages import PageCache
from headrace.model.clock import Clock, SystemClock
from headrace.model.errors import HeadraceError, SettingsError
from headrace.model.mounts import MountSpec, WriteMode
from headrace.model.objects import Emit, ObjectInfo, with_key
from headrace.model.reading import FileSlice, Reading
from headrace.model.sigv4 import SigningIdentity
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.settings import Settings
from headrace.stores.handoff import HandoffChannel, HandoffStore
from headrace.stores.node import NodeStore
from headrace.stores.retry import RetrySettings
from headrace.wiring import Journals, LiveMounts, Parts, Scratch, bare_store, caches_of, open_marks, open_pages

_log = logging.getLogger(__name__)

LEDGER_NAME = "ledger.db"


class OwnNamespace(Namespace):
    """A namespace with all that was opened for it. After `close` nothing of it can be read."""

    def __init__(
        self,
        table: MountTable,
        pages: PageCache | None = None,
        *,
        stop: threading.Event | None = None,
        live: LiveMounts | None = None,
        handoff: HandoffStore | None = None,
    ) -> None:
        super().__init__(table)
        self._pages = pages
        self._stop = stop
        self._live = live
        self._handoff = handoff

    async def at_hand(self, paths: Sequence[str]) -> dict[str, Reading]:
        """Those of the objects whose whole bytes are here and can be read without waiting; a node is asked for them together."""
        if self._handoff is not None:
            found = await self._handoff.at_hand([path[1:] for path in paths])
            return {"/" + key: reading for key, reading in found.items()}
        readings: dict[str, Reading] = {}
        for path in paths:
            with contextlib.suppress(HeadraceError):  # whatever it is, a read of that path says it
                reading = self.peek(path, None, files=True) or self.peek(path, None)
                if reading is not None and reading.ready is not None:
                    readings[path] = reading
        return readings

    @property
    def wholes(self) -> CachedWholes:
        """Its objects as single files."""
        return CachedWholes(self, self._pages)

    async def follow(self, settings: Settings, *, every_s: float = 2.0) -> None:
        """Bring changes of mounts into force as the ledger of `settings` has them, until cancelled."""
        seen = _ledger_state(settings)
        while self._live is not None:
            await asyncio.sleep(every_s)
            self.table = self._live.namespace.table  # a mount that could not be built may have been since
            now = _ledger_state(settings)
            if now == seen:
                continue
            try:
                await self._live.apply(await asyncio.to_thread(_known_mounts, settings))
            except (HeadraceError, OSError) as error:
                _log.warning("changed mounts could not be brought into force, the ones before stay: %s", error)
            else:
                seen, self.table = now, self._live.namespace.table

    async def close(self) -> None:
        if self._stop is not None:
            self._stop.set()
        if self._live is not None:
            await self._live.close()
        else:
            await asyncio.gather(*(mount.store.close() for mount in self.table.mounts), return_exceptions=True)
        if self._pages is not None:
            await self._pages.close()


class CachedWholes:
    """What `gateways/fuse/handing.py` asks for, out of the page cache behind a namespace."""

    def __init__(self, namespace: Namespace, pages: PageCache | None) -> None:
        self._namespace = namespace
        self._pages = pages

    def find(self, path: str, info: ObjectInfo) -> FileSlice | None:
        pages = self._pages
        if pages is None:
            return None
        return next((found for target in self._targets(path, info) if (found := pages.wholes.find(target))), None)

    async def join(self, path: str, info: ObjectInfo) -> bool:
        if self._pages is None:
            return False
        for target in self._targets(path, info):
            if await self._pages.wholes.join(target):
                return True
        return False

    def _targets(self, path: str, info: ObjectInfo) -> list[CachedObject]:
        """By the version, so that another one's pages are never found. None on a disk where the mount's may not lie on one."""
        place = self._namespace.resolve(path)
        return [cached.target(with_key(info, place.key)) for cached in caches_of(place.mount.store)]


async def open_namespace(settings: Settings, *, clock: Clock, emit: Emit) -> OwnNamespace:
    """The namespace inside this process, sharing the node's page directory: settings' mounts and the ledger's.

    Raises `SettingsError` when nothing is mounted, and what is wrong with a mount that cannot be built.
    """
    specs = _known_mounts(settings)
    if not specs:
        where = settings.source or "no headrace.toml was found, so"
        raise SettingsError(f"{where}: nothing is mounted; add a [[mount]], or name the settings in $HEADRACE_CONFIG")
    pages = open_pages(settings.cache, settings.home, clock=clock, emit=emit)
    journals = Journals(settings.staging.root(settings.home), settings.staging)
    scratch = Scratch(settings.scratch.root(settings.home), settings.scratch)
    live = LiveMounts(Parts(clock, emit, os.environ, pages, open_marks(settings.home), journals, scratch))
    await live.apply(specs)
    stop = _keep_pages(settings, clock=clock, emit=emit)
    namespace = OwnNamespace(live.namespace.table, pages, stop=stop, live=live)
    for error in live.failed.values():
        await namespace.close()
        raise error
    return namespace


def _keep_pages(settings: Settings, *, clock: Clock, emit: Emit) -> threading.Event:
    """Keepers in threads of this process: they wait until no node and no other process keeps the page directories."""
    stop = threading.Event()
    for disk in settings.cache.disk:
        root = os.fspath(disk.root(settings.home))
        run_in_thread(Keeper(root, disk.capacity_bytes, settings.cache.geometry, clock=clock, emit=emit), stop)
    return stop


def _ledger_state(settings: Settings) -> tuple[tuple[int, int], ...]:
    """What changes whenever the ledger does."""
    found: list[tuple[int, int]] = []
    for name in (LEDGER_NAME, f"{LEDGER_NAME}-wal"):
        try:
            there = os.stat(settings.home / name)  # noqa: PTH116
        except OSError:
            continue
        found.append((there.st_mtime_ns, there.st_size))
    return tuple(found)


def _known_mounts(settings: Settings) -> tuple[MountSpec, ...]:
    if not (settings.home / LEDGER_NAME).exists():
        return settings.mount
    from headrace.ledger.ledger import Ledger  # noqa: PLC0415  SQL is heavy to import, and most embedded use has no ledger

    ledger = Ledger(settings.home, SystemClock())
    try:
        taken = {spec.path for spec in settings.mount}
        return (*settings.mount, *(spec for spec in ledger.state.mounts() if spec.path not in taken))
    finally:
        ledger.close()


async def open_remote(
    endpoint: str, key_id: str, secret: str, *, region: str, clock: Clock, handoff_socket: str | None
) -> OwnNamespace:
    """The namespace of a node that runs, seen through its data port; open files come over the socket where there is one."""
    environ = {"REMOTE_ACCESS_KEY_ID": key_id, "REMOTE_SECRET_ACCESS_KEY": secret}
    spec = MountSpec(
        path="/",
        store="s3://",
        endpoint=endpoint,
        region=region,
        credentials="env:REMOTE",
        freshness="verify",
        write=WriteMode.THROUGH,
        create_buckets=True,
    )
    # The node answers for many stores and spares each by itself: one that is away must not close the way to the others.
    retry = RetrySettings(failures_to_open=sys.maxsize)
    store = bare_store(spec, Parts(clock, _ignore, environ), mount="/", retry=retry)
    handoff: HandoffStore | None = None
    if handoff_socket is not None:
        identity = SigningIdentity(key_id, secret, region)
        handoff = HandoffStore(store, HandoffChannel(handoff_socket, identity, urlsplit(endpoint).netloc, clock), clock)
    return OwnNamespace(MountTable([Mount("/", spec, NodeStore(handoff or store, endpoint))]), handoff=handoff)


def _ignore(_event: object) -> None:
    """A client keeps no metrics: the node does."""
