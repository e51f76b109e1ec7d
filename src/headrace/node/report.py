"""One worker's numbers for the status page, from the gateway, the cache and the tally."""

from __future__ import annotations

import time

import msgspec

from headrace.cache.arena import MemoryTier
from headrace.cache.pages import PageCache
from headrace.cache.settings import CacheSettings
from headrace.control.node_view import Counters, MountStats, ScratchUse, SlowRead, TierStats
from headrace.gateways.s3.stats import GatewayStats
from headrace.node.messages import WorkerReport
from headrace.node.staged import staged_in
from headrace.node.tally import Tally
from headrace.node.view import MEMORY_TIER, rss_bytes
from headrace.wiring import LiveMounts, scratch_of


def report(tally: Tally, gateway: GatewayStats, *, pages: PageCache, cache: CacheSettings, mounts: LiveMounts) -> WorkerReport:
    """What `AskStats` is answered with."""
    return WorkerReport(
        counters=_counters(tally, gateway),
        mounts=_mounts(tally, mounts),
        tiers=_tiers(pages, cache),
        slowest=tuple(SlowRead(read.path, read.seconds, read.bytes, read.served, read.at_s) for read in gateway.slowest),
        rss_bytes=rss_bytes(),
    )


def _counters(tally: Tally, gateway: GatewayStats) -> Counters:
    own = tally.counters()
    return msgspec.structs.replace(
        own,
        requests=sum(row.requests for row in gateway.requests),
        hits=tally.served["hit"],
        misses=tally.served["miss"],
        partial=tally.served["partial"],
        stale=tally.served["stale"],
        bypass=tally.served["bypass"],
        bytes_served=gateway.bytes_sent,
        writes=gateway.writes,
        bytes_received=gateway.bytes_received,
        bytes_from_cache=tally.bytes_from_cache,
        connections=gateway.connections.open,
    )


def _mounts(tally: Tally, mounts: LiveMounts) -> tuple[MountStats, ...]:
    broken = tuple(
        MountStats(path=path, store="", healthy=False, error=str(error), checked_s=time.time())
        for path, error in mounts.failed.items()
    )
    staged = {mount.path: staged_in(mount) for mount in mounts.namespace.table.mounts}
    seen = {row.path: msgspec.structs.replace(row, staged=staged.pop(row.path, None)) for row in tally.mounts()}
    # A mount that nobody has asked for anything yet may have writes from before the restart.
    unasked = {path: MountStats(path, "", staged=found) for path, found in staged.items()}
    rows = {**seen, **unasked}
    for mount in mounts.namespace.table.mounts:
        for scratch in scratch_of(mount.store):
            use = ScratchUse(scratch.room.used(), scratch.room.capacity_bytes)
            rows[mount.path] = msgspec.structs.replace(rows[mount.path], scratch=use)
    told = (row for row in rows.values() if row.path in seen or row.staged is not None or row.scratch is not None)
    return (*(row for row in told if row.path not in mounts.failed), *broken)


def _tiers(pages: PageCache, cache: CacheSettings) -> tuple[TierStats, ...]:
    """Disks as this process finds them (how full they are, the keeper knows), and the memory tier that all share."""
    tiers = [
        TierStats(
            directory.root,
            disk.capacity_bytes,
            healthy=not directory.health.out,
            note="out of service after failures; reads go past it" if directory.health.out else "",
        )
        for directory, disk in zip(pages.directories, cache.disk, strict=True)
    ]
    if isinstance(pages.memory, MemoryTier):
        memory = pages.memory.stats()
        tiers.append(TierStats(MEMORY_TIER, memory.capacity, memory.bytes_used, memory.filled))
    return tuple(tiers)
