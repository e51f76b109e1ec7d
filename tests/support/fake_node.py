"""A node for control-plane tests: objects in a dict, every call remembered, failures on demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

from headrace.control.node_view import (
    Counters,
    Found,
    MountStats,
    NodeStats,
    SlowRead,
    StagedConflict,
    StagedWrites,
    TierStats,
    WorkerStats,
)
from headrace.control.notifications import ChangedObject, Changes
from headrace.control.state import NodeState
from headrace.model.errors import HeadraceError, NotFound
from headrace.model.mounts import MountSpec
from headrace.model.objects import Listing, ObjectInfo, Version


class FakeNode:
    def __init__(self, objects: dict[str, int] | None = None) -> None:
        self.objects = dict(objects or {})
        self.pushed: list[NodeState] = []
        self.loads: Counter[str] = Counter()
        self.tried: list[MountSpec] = []
        self.freed: list[tuple[str, bool]] = []
        self.pinned: list[tuple[str, bool]] = []
        self.held: list[str] = []
        self.failures: dict[str, HeadraceError] = {}
        self.try_failure: HeadraceError | None = None
        self.push_failure: HeadraceError | None = None
        self.staged_writes: list[StagedWrites] = [StagedWrites()]
        self.changes: list[ChangedObject] = []
        self.missed = 0
        self.follower: Callable[[Changes], None] = lambda _changes: None
        self.change_failures: list[HeadraceError] = []
        self.settled: list[tuple[str, str, bool]] = []
        self.pin_failure: HeadraceError | None = None
        self.found: list[Found | HeadraceError] = [Found()]
        self.surveys = 0
        self.hold: asyncio.Event | None = None
        self.hold_after = 0
        self.serves = True
        self.requests = 0
        self.page_limit = 1000
        self.slow_key = "/b/slow"

    async def push_state(self, state: NodeState) -> None:
        if self.push_failure is not None:
            raise self.push_failure
        self.pushed.append(state)

    async def stats(self) -> NodeStats:
        self.requests += 7
        counters = Counters(
            requests=self.requests, hits=3, misses=1, bytes_served=self.requests * 1000, bytes_from_cache=500, store_bytes=500
        )
        return NodeStats(
            epoch=1,
            uptime_s=float(self.requests),
            counters=counters,
            workers=(WorkerStats(0, 4242, True, counters=counters),),
            tiers=(TierStats("disk", 10**9, 10**6, 17), TierStats("memory", 10**6, healthy=False, note="cannot lock memory")),
            mounts=(
                MountStats("/sales", "s3://corp-sales/2026", store_requests=4, store_seconds=0.2),
                MountStats("/down", "s3://gone", healthy=False, error="refused the connection"),
            ),
            slowest=(SlowRead(self.slow_key, 1.5, 4096, "miss", 1_700_000_000.0),),
            data_url="http://127.0.0.1:9400",
        )

    def ready(self) -> bool:
        return self.serves

    async def list_page(self, path: str, *, after: str, limit: int) -> Listing:
        if path in self.failures:
            raise self.failures[path]
        prefix = path.rstrip("/") + "/"
        keys = sorted(key for key in self.objects if (key == path or key.startswith(prefix)) and key > after)
        some = keys[: min(limit, self.page_limit)]
        entries = tuple(ObjectInfo(key, self.objects[key], Version("etag:x")) for key in some)
        return Listing(entries, some[-1] if len(some) < len(keys) else None)

    async def load(self, path: str) -> int:
        if self.hold is not None and sum(self.loads.values()) >= self.hold_after:
            await self.hold.wait()
        self.loads[path] += 1
        if path in self.failures:
            raise self.failures[path]
        if path not in self.objects:
            raise NotFound(f"{path} is gone")
        return self.objects[path]

    async def free(self, path: str, *, prefix: bool) -> int:
        self.freed.append((path, prefix))
        return 12345

    async def hold_pin(self, path: str) -> None:
        if self.pin_failure is not None:
            raise self.pin_failure
        self.held.append(path)

    async def pin(self, path: str, on: bool) -> None:
        if self.pin_failure is not None:
            raise self.pin_failure
        self.pinned.append((path, on))

    async def staged(self, path: str) -> StagedWrites:
        return self.staged_writes.pop(0) if len(self.staged_writes) > 1 else self.staged_writes[0]

    async def changed(self, objects: tuple[ChangedObject, ...]) -> None:
        if self.change_failures:
            raise self.change_failures.pop(0)
        self.changes += objects
        self.follower(Changes(objects))

    async def changes_missed(self) -> None:
        self.missed += 1
        self.follower(Changes(are_all=True))

    def follow(self, tell: Callable[[Changes], None]) -> None:
        self.follower = tell

    async def survey(self, path: str) -> AsyncIterator[Found]:
        self.surveys += 1
        try:
            for found in self.found:
                if isinstance(found, HeadraceError):
                    raise found
                yield found
                while self.hold is not None and not self.hold.is_set():
                    await asyncio.sleep(0.05)
                    yield found
        finally:
            self.surveys -= 1

    async def settle(self, conflict: StagedConflict, *, ours: bool) -> None:
        self.settled.append((conflict.path, conflict.kept_as, ours))

    async def try_mount(self, spec: MountSpec) -> None:
        self.tried.append(spec)
        if self.try_failure is not None:
            raise self.try_failure
