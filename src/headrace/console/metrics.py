"""`/metrics`: one snapshot of the node in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.control.node_view import FeedStats, MountStats, NodeStats, TierStats, WorkerStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_WORKER_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("requests", "headrace_requests", "Requests answered"),
    ("bytes_served", "headrace_served_bytes", "Bytes of bodies sent to callers"),
    ("writes", "headrace_writes", "Requests that changed something"),
    ("bytes_received", "headrace_received_bytes", "Bytes of bodies of writes"),
    ("bytes_from_cache", "headrace_saved_bytes", "Bytes sent that no store was asked for"),
    ("store_requests", "headrace_store_requests", "Requests sent to stores"),
    ("store_errors", "headrace_store_errors", "Requests to stores that failed"),
    ("store_bytes", "headrace_store_bytes", "Bytes read from stores"),
    ("fills", "headrace_fills", "Fills of pages that ended well"),
    ("fill_errors", "headrace_fill_errors", "Fills of pages that failed"),
    ("pages_dropped", "headrace_pages_dropped", "Pages that left a tier"),
    ("corrupt_pages", "headrace_corrupt_pages", "Pages whose checksum did not fit; dropped and refilled"),
    ("tier_faults", "headrace_tier_faults", "Times that a tier failed and was passed by"),
    ("refused", "headrace_refused", "Requests refused by authentication or policy"),
    ("background_errors", "headrace_background_errors", "Errors that background loops survived"),
    ("refreshes", "headrace_refreshes", "Entries asked for in the background before their freshness ended"),
    ("refresh_errors", "headrace_refresh_errors", "Those that failed"),
)


def render(stats: NodeStats, *, ready: bool) -> bytes:
    """The exposition of one snapshot."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(stats, ready))
    return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, stats: NodeStats, ready: bool) -> None:
        self._stats = stats
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        yield _gauge("headrace_ready", "1 when at least one worker serves the current state", float(self._ready))
        yield _gauge("headrace_uptime_seconds", "Seconds since the supervisor started", self._stats.uptime_s)
        yield _gauge("headrace_epoch", "Number of the state of mounts, keys and rules in force", float(self._stats.epoch))
        yield _gauge("headrace_hit_ratio", "Share of reads that needed no store", self._stats.counters.hit_ratio)
        yield from _workers(self._stats.workers)
        yield from _tiers(self._stats.tiers)
        yield from _mounts(self._stats.mounts)
        yield from _feeds(self._stats.feeds)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _workers(workers: tuple[WorkerStats, ...]) -> Iterator[Metric]:
    up = GaugeMetricFamily("headrace_worker_up", "1 while the process lives", labels=["worker"])
    restarts = CounterMetricFamily("headrace_worker_restarts", "Times that the process was started again", labels=["worker"])
    memory = GaugeMetricFamily("headrace_worker_resident_bytes", "Resident memory", labels=["worker"])
    connections = GaugeMetricFamily("headrace_worker_connections", "Connections open now", labels=["worker"])
    served = CounterMetricFamily("headrace_reads", "Reads by how they were served", labels=["worker", "served"])
    for worker in workers:
        name = [str(worker.index)]
        up.add_metric(name, float(worker.alive))
        restarts.add_metric(name, worker.restarts)
        memory.add_metric(name, worker.rss_bytes)
        connections.add_metric(name, worker.counters.connections)
        counters = worker.counters
        for kind, value in (
            ("hit", counters.hits),
            ("miss", counters.misses),
            ("partial", counters.partial),
            ("stale", counters.stale),
            ("bypass", counters.bypass),
        ):
            served.add_metric([*name, kind], value)
    yield from (up, restarts, memory, connections, served)
    for field, metric, text in _WORKER_COUNTERS:
        family = CounterMetricFamily(metric, text, labels=["worker"])
        for worker in workers:
            family.add_metric([str(worker.index)], getattr(worker.counters, field))
        yield family


def _tiers(tiers: tuple[TierStats, ...]) -> Iterator[Metric]:
    capacity = GaugeMetricFamily("headrace_tier_capacity_bytes", "Capacity of a tier", labels=["tier"])
    used = GaugeMetricFamily("headrace_tier_used_bytes", "Bytes of pages in a tier", labels=["tier"])
    healthy = GaugeMetricFamily("headrace_tier_healthy", "1 while a tier is in service", labels=["tier"])
    for tier in tiers:
        capacity.add_metric([tier.name], tier.capacity_bytes)
        used.add_metric([tier.name], tier.used_bytes)
        healthy.add_metric([tier.name], float(tier.healthy))
    yield from (capacity, used, healthy)


def _mounts(mounts: tuple[MountStats, ...]) -> Iterator[Metric]:
    healthy = GaugeMetricFamily("headrace_mount_healthy", "1 while a mount's store answers", labels=["mount"])
    requests = CounterMetricFamily("headrace_mount_store_requests", "Requests sent to a mount's store", labels=["mount"])
    failed = CounterMetricFamily("headrace_mount_store_errors", "Those that failed", labels=["mount"])
    taken = CounterMetricFamily("headrace_mount_store_bytes", "Bytes read from a mount's store", labels=["mount"])
    served = CounterMetricFamily("headrace_mount_served_bytes", "Bytes sent to callers of a mount", labels=["mount"])
    for mount in mounts:
        healthy.add_metric([mount.path], float(mount.healthy))
        requests.add_metric([mount.path], mount.store_requests)
        failed.add_metric([mount.path], mount.store_errors)
        taken.add_metric([mount.path], mount.store_bytes)
        served.add_metric([mount.path], mount.bytes_served)
    yield from (healthy, requests, failed, taken, served)
    yield from _staged(mounts)
    yield from _scratch(mounts)


def _scratch(mounts: tuple[MountStats, ...]) -> Iterator[Metric]:
    """Of mounts with scratch: how full it is."""
    used = GaugeMetricFamily("headrace_scratch_bytes", "Bytes of a mount that live on this node alone", labels=["mount"])
    capacity = GaugeMetricFamily("headrace_scratch_capacity_bytes", "At most this many", labels=["mount"])
    for mount in mounts:
        if mount.scratch is not None:
            used.add_metric([mount.path], mount.scratch.used_bytes)
            capacity.add_metric([mount.path], mount.scratch.capacity_bytes)
    yield from (used, capacity)


def _staged(mounts: tuple[MountStats, ...]) -> Iterator[Metric]:
    """Of mounts that write back: what their stores do not have yet."""
    writes = GaugeMetricFamily("headrace_staged_writes", "Acknowledged writes that a mount's store lacks", labels=["mount"])
    size = GaugeMetricFamily("headrace_staged_bytes", "Bytes of those writes", labels=["mount"])
    age = GaugeMetricFamily("headrace_staged_oldest_seconds", "Age of the oldest of them; 0 when there is none", labels=["mount"])
    conflicts = GaugeMetricFamily("headrace_conflicts", "Writes that met another's at the store, not settled", labels=["mount"])
    for mount in mounts:
        staged = mount.staged
        if staged is None:
            continue
        writes.add_metric([mount.path], staged.writes)
        size.add_metric([mount.path], staged.bytes)
        age.add_metric([mount.path], max(0.0, time.time() - staged.oldest_s) if staged.oldest_s is not None else 0.0)
        conflicts.add_metric([mount.path], len(staged.conflicts))
    yield from (writes, size, age, conflicts)


def _feeds(feeds: tuple[FeedStats, ...]) -> Iterator[Metric]:
    """Of sources of notifications that the node reads by itself."""
    connected = GaugeMetricFamily("headrace_feed_connected", "1 while notifications are being read", labels=["feed"])
    waiting = GaugeMetricFamily("headrace_feed_waiting_messages", "Messages there and not read yet", labels=["feed"])
    last = GaugeMetricFamily("headrace_feed_last_message_timestamp_seconds", "When the last came; 0: none yet", labels=["feed"])
    messages = CounterMetricFamily("headrace_feed_messages", "Messages read", labels=["feed"])
    objects = CounterMetricFamily("headrace_feed_objects", "Objects that they named", labels=["feed"])
    malformed = CounterMetricFamily("headrace_feed_malformed_messages", "Messages that were no notification", labels=["feed"])
    gaps = CounterMetricFamily("headrace_feed_gaps", "Times that everything known was voided for a gap", labels=["feed"])
    errors = CounterMetricFamily("headrace_feed_errors", "Failures to read", labels=["feed"])
    for feed in feeds:
        name = [feed.name]
        connected.add_metric(name, float(feed.connected))
        waiting.add_metric(name, feed.waiting)
        last.add_metric(name, feed.last_s)
        messages.add_metric(name, feed.messages)
        objects.add_metric(name, feed.objects)
        malformed.add_metric(name, feed.malformed)
        gaps.add_metric(name, feed.gaps)
        errors.add_metric(name, feed.errors)
    yield from (connected, waiting, last, messages, objects, malformed, gaps, errors)
