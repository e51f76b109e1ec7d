"""One worker's numbers for the status page, from the gateway, the cache and the tally."""

from __future__ import annotations

import time

import msgspec

from headrace.cache.pages import PageCache
from headrace.control.node_view import Counters, MountStats, SlowRead, TierStats
from headrace.gateways.s3.stats import GatewayStats
from headrace.node.messages import WorkerReport
from headrace.node.tally import Tally
from headrace.node.view import rss_bytes
from headrace.wiring import LiveMounts


def report(epoch: int, tally: Tally, gateway: GatewayStats, pages: PageCache, mounts: LiveMounts) -> WorkerReport:
    """What `AskStats` is answered with."""
    return WorkerReport(
        epoch=epoch,
        counters=_counters(tally, gateway),
        mounts=_mounts(tally, mounts),
        tiers=_tiers(pages),
        slowest=tuple(SlowRead(read.path, read.seconds, read.bytes, read.served, time.time()) for read in gateway.slowest),
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
        bytes_from_cache=tally.bytes_from_cache,
        connections=gateway.connections.open,
    )


def _mounts(tally: Tally, mounts: LiveMounts) -> tuple[MountStats, ...]:
    broken = tuple(
        MountStats(path=path, store="", healthy=False, error=str(error), checked_s=time.time())
        for path, error in mounts.failed.items()
    )
    return (*tally.mounts(), *broken)


def _tiers(pages: PageCache) -> tuple[TierStats, ...]:
    return tuple(
        TierStats(tier.name, tier.capacity_bytes, tier.used_bytes, tier.segments, healthy=tier.healthy, note=tier.note)
        for tier in pages.stats().tiers
    )
