"""A node's state as tables: one function each, its head beside its rows."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from headrace.console.printer import show_health, show_seconds, show_time
from headrace.control.node_view import NodeStats
from headrace.model.units import format_size

_SLOWEST_SHOWN = 10


class Table(msgspec.Struct, frozen=True):
    """What is printed below one another. `right` are the columns of numbers."""

    head: tuple[str, ...]
    right: frozenset[int]
    rows: Sequence[tuple[str, ...]]


def tables(stats: NodeStats) -> list[Table]:
    """Those that have rows."""
    made = (_mounts, _scratch, _staged, _feeds, _tiers, _workers, _slowest)
    return [table for table in (make(stats) for make in made) if table.rows]


def _mounts(stats: NodeStats) -> Table:
    now_s = time.time()
    rows = [
        (
            mount.path,
            mount.store,
            show_health(mount, now_s),
            format_size(mount.bytes_served),
            format_size(mount.store_bytes),
            str(mount.store_requests),
        )
        for mount in stats.mounts
    ]
    return Table(("MOUNT", "STORE", "HEALTH", "SERVED", "FROM STORE", "REQUESTS"), frozenset({3, 4, 5}), rows)


def _scratch(stats: NodeStats) -> Table:
    uses = [(mount.path, mount.scratch) for mount in stats.mounts if mount.scratch is not None]
    rows = [(path, format_size(use.used_bytes), format_size(use.capacity_bytes)) for path, use in uses]
    return Table(("SCRATCH, ON THIS NODE ALONE", "USED", "CAPACITY"), frozenset({1, 2}), rows)


def _staged(stats: NodeStats) -> Table:
    head = ("WRITES ON THEIR WAY", "WRITES", "BYTES", "OLDEST FOR", "CONFLICTS", "LAST REFUSAL")
    now_s = time.time()
    rows = [
        (
            path,
            str(staged.writes),
            format_size(staged.bytes),
            show_seconds(now_s - staged.oldest_s) if staged.oldest_s is not None else "-",
            str(len(staged.conflicts)),
            staged.error,
        )
        for path, staged in ((mount.path, mount.staged) for mount in stats.mounts)
        if staged is not None
    ]
    return Table(head, frozenset({1, 2, 3, 4}), rows)


def _feeds(stats: NodeStats) -> Table:
    head = ("NOTIFICATIONS FROM", "STATE", "WAITING", "MESSAGES", "PASSED OVER", "GAPS", "LAST CAME")
    rows = [
        (
            feed.name,
            "connected" if feed.connected else feed.error or "connecting",
            str(feed.waiting),
            str(feed.messages),
            str(feed.malformed),
            str(feed.gaps),
            show_time(feed.last_s),
        )
        for feed in stats.feeds
    ]
    return Table(head, frozenset({2, 3, 4, 5}), rows)


def _tiers(stats: NodeStats) -> Table:
    rows = [
        (
            tier.name,
            format_size(tier.used_bytes),
            format_size(tier.capacity_bytes),
            str(tier.segments),
            "in service" if tier.healthy else tier.note or "out of service",
        )
        for tier in stats.tiers
    ]
    return Table(("TIER", "USED", "CAPACITY", "SEGMENTS", "STATE"), frozenset({1, 2, 3}), rows)


def _workers(stats: NodeStats) -> Table:
    head = ("WORKER", "PROCESS", "STATE", "RESTARTS", "MEMORY", "REQUESTS", "CONNECTIONS")
    rows = [
        (
            str(worker.index),
            str(worker.pid),
            "serving" if worker.alive else "starting",
            str(worker.restarts),
            format_size(worker.rss_bytes),
            str(worker.counters.requests),
            str(worker.counters.connections),
        )
        for worker in stats.workers
    ]
    return Table(head, frozenset({1, 3, 4, 5, 6}), rows)


def _slowest(stats: NodeStats) -> Table:
    rows = [
        (read.path, show_seconds(read.seconds), format_size(read.bytes), read.served, show_time(read.at_s))
        for read in stats.slowest[:_SLOWEST_SHOWN]
    ]
    return Table(("SLOWEST READS", "TIME", "BYTES", "SERVED", "WHEN"), frozenset({1, 2}), rows)
