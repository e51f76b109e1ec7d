"""What the control plane sees of the node that serves: a narrow contract, implemented by `node/`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

from headrace.control.notifications import ChangedObject, Changes
from headrace.control.state import NodeState
from headrace.control.sync.steps import Outcome, SidePage, StepBatch
from headrace.model.mounts import MountSpec
from headrace.model.objects import Listing


class Counters(msgspec.Struct, frozen=True):
    """Sums since a process started. Bytes and requests, never rates."""

    requests: int = 0
    hits: int = 0
    misses: int = 0
    partial: int = 0
    stale: int = 0
    bypass: int = 0
    bytes_served: int = 0
    bytes_from_cache: int = 0
    """Of `bytes_served`, those that no store was asked for: the bytes saved at the stores."""
    writes: int = 0
    """Requests that were there to change something and did."""
    bytes_received: int = 0
    """Of the bodies of writes."""
    store_requests: int = 0
    store_errors: int = 0
    store_bytes: int = 0
    fills: int = 0
    fill_errors: int = 0
    pages_dropped: int = 0
    corrupt_pages: int = 0
    tier_faults: int = 0
    refused: int = 0
    """Requests refused by authentication or policy."""
    background_errors: int = 0
    refreshes: int = 0
    """Questions put to stores in the background, so that readers need not wait for them."""
    refresh_errors: int = 0
    connections: int = 0
    """Open now, not a sum."""

    def plus(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    @property
    def hit_ratio(self) -> float:
        """Share of answered reads that needed no store, 0 to 1; 0 before the first read."""
        reads = self.hits + self.misses + self.partial + self.stale + self.bypass
        return (self.hits + self.stale) / reads if reads else 0.0


class WorkerStats(msgspec.Struct, frozen=True):
    """One serving process."""

    index: int
    pid: int
    alive: bool
    restarts: int = 0
    uptime_s: float = 0.0
    rss_bytes: int = 0
    counters: Counters = Counters()


class TierStats(msgspec.Struct, frozen=True):
    """One tier of the node. `note` says why and what to do when it is not healthy."""

    name: str
    capacity_bytes: int
    used_bytes: int = 0
    segments: int = 0
    healthy: bool = True
    note: str = ""


class MountStats(msgspec.Struct, frozen=True):
    """One mount as its callers and its store saw it. `error` is the last failure in words, empty when healthy."""

    path: str
    store: str
    healthy: bool = True
    error: str = ""
    checked_s: float = 0.0
    """Seconds since 1970 UTC when the store last answered or failed; 0: not asked yet."""
    store_requests: int = 0
    store_errors: int = 0
    store_bytes: int = 0
    store_seconds: float = 0.0
    bytes_served: int = 0
    requests: int = 0
    staged: StagedWrites | None = None
    """What the journal of a mount with `write = "back"` holds; None for others."""
    scratch: ScratchUse | None = None
    """How full a mount with `write = "scratch"` is; None for others."""


class ScratchUse(msgspec.Struct, frozen=True):
    """What lives on this node alone."""

    used_bytes: int
    capacity_bytes: int


class StagedConflict(msgspec.Struct, frozen=True):
    """A write of ours that met another's at the store. Paths are whole; `kept_as` is empty where ours was a removal."""

    path: str
    kept_as: str
    noticed_s: float
    """Seconds since 1970 UTC."""


class StagedWrites(msgspec.Struct, frozen=True):
    """What is acknowledged at or below a path and has not reached its store yet."""

    writes: int = 0
    bytes: int = 0
    oldest_s: float | None = None
    """When the oldest of them was acknowledged, in seconds since 1970 UTC."""
    error: str = ""
    """Why the last that was tried was not taken."""
    conflicts: tuple[StagedConflict, ...] = ()
    """Those not settled, at most some hundred."""

    def plus(self, other: StagedWrites) -> StagedWrites:
        ages = [age for age in (self.oldest_s, other.oldest_s) if age is not None]
        return StagedWrites(
            self.writes + other.writes,
            self.bytes + other.bytes,
            min(ages, default=None),
            self.error or other.error,
            self.conflicts + other.conflicts,
        )


class Found(msgspec.Struct, frozen=True):
    """What a look through stores has found, in numbers of objects: what differs from the look before."""

    objects: int = 0
    """Listed."""
    added: int = 0
    changed: int = 0
    deleted: int = 0
    ours: int = 0
    """Of all differences, those that this node's own writes made; in none of the counts before."""
    new: int = 0
    """Of `objects`, those of which no earlier look could tell: they are compared with nothing."""
    note: str = ""
    """Why the next look will find some of it again; empty when it will not."""


class SlowRead(msgspec.Struct, frozen=True):
    """One of the slowest reads of late."""

    path: str
    seconds: float
    bytes: int
    served: str
    at_s: float
    """Seconds since 1970 UTC."""


class FeedStats(msgspec.Struct, frozen=True):
    """A source of stores' notifications that this node reads by itself. Sums since the node started."""

    name: str
    connected: bool = False
    waiting: int = 0
    """Messages that are there and not read yet, when it was last asked."""
    messages: int = 0
    objects: int = 0
    """Objects that messages named."""
    malformed: int = 0
    """Messages that were passed over because they were no notification."""
    gaps: int = 0
    """Times that messages may have been missed, so that everything known was voided."""
    errors: int = 0
    error: str = ""
    """The last failure in words; empty while connected."""
    last_s: float = 0.0
    """Seconds since 1970 UTC when a message last came; 0: none yet."""


class NodeStats(msgspec.Struct, frozen=True):
    """The node at one moment: summed counters and where they come from."""

    epoch: int
    uptime_s: float
    counters: Counters = Counters()
    workers: tuple[WorkerStats, ...] = ()
    tiers: tuple[TierStats, ...] = ()
    mounts: tuple[MountStats, ...] = ()
    slowest: tuple[SlowRead, ...] = ()
    feeds: tuple[FeedStats, ...] = ()
    notes: tuple[str, ...] = ()
    """What somebody should look at, in words: such as writes of a mount that is gone."""
    data_url: str = ""
    """Where S3 callers reach the node, such as `http://127.0.0.1:9400`."""


class NodeView(Protocol):
    """The node as the control plane drives it. Every verb raises only `HeadraceError`s."""

    async def push_state(self, state: NodeState) -> None:
        """Bring `state` into force on every worker; returns when each has acknowledged it.

        A worker that is starting gets it before it serves. Raises `Unavailable` when a live worker does not answer.
        """

    async def stats(self) -> NodeStats:
        """The node now; never waits for a worker that does not answer."""

    def ready(self) -> bool:
        """Whether at least one worker serves the current state."""

    async def list_page(self, path: str, *, after: str, limit: int) -> Listing:
        """At most `limit` objects at or below namespace path `path`, recursively, sorted, behind `after`.

        The entries' keys are whole namespace paths (`/bucket/key`), and so are both `after`s. A path that names
        one object yields that object.
        """

    async def load(self, path: str) -> int:
        """Bring all pages of the object at `path` into the cache; the object's length in bytes. Raises `NotFound`."""

    async def free(self, path: str, *, prefix: bool) -> int:
        """Drop the pages of the object at `path`, or of all below it; bytes freed. Pinned ones go too."""

    async def pin(self, path: str, on: bool) -> None:
        """Keep the pages at and below `path` from eviction, or allow it again."""

    async def hold_pin(self, path: str) -> None:
        """`pin`, but only of stores that do not have it yet: one that was put below the path since."""

    async def staged(self, path: str) -> StagedWrites:
        """What is written at or below `path` and has not reached its store yet; conflicts likewise."""

    async def changed(self, objects: tuple[ChangedObject, ...]) -> None:
        """What is known of these objects is void from now on, in every process and through every mount."""

    async def changes_missed(self) -> None:
        """Objects may have changed without a word: what is known of any object is void, in every process and mount."""

    def follow(self, tell: Callable[[Changes], None]) -> None:
        """From now on `tell` hears of what `changed` and `changes_missed` were told, and of what this node's callers wrote.

        Soon after, and in the loop's thread. What syncs write is not told. One follower; a later one takes its place.
        """

    def survey(self, path: str) -> AsyncIterator[Found]:
        """Look through all that the stores have at or below `path`: what was found so far, now and then, and in the end all.

        When it has ended, no process uses what it knew before. Raises `NotFound` where nothing is mounted, `Unavailable` when
        some of it could not be listed, or is looked through by another.
        """

    async def settle(self, conflict: StagedConflict, *, ours: bool) -> None:
        """End a conflict: with `ours`, put what was kept in the place of the store's; else remove it. Raises `NotFound`."""

    async def side_page(self, path: str, *, after: str, limit: int) -> SidePage:
        """At most `limit` objects below the directory `path`, as `sides.side_page`. `Unavailable` unless all can be seen."""

    async def carry_out(self, batch: StepBatch) -> tuple[Outcome, ...]:
        """Do the steps of a sync in one of the serving processes; what became of each, in their order."""

    async def try_mount(self, spec: MountSpec) -> None:
        """List and read a little through `spec`; raises a `HeadraceError` that says in words what is wrong."""
