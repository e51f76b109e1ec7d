"""Counts what happens in one worker: the listener behind every event of its data path."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from headrace.control.node_view import Counters, MountStats
from headrace.model.events import (
    AccessRefused,
    BackgroundError,
    FillEnded,
    PagesDropped,
    ReadServed,
    ReadsServed,
    Refreshed,
    ScratchLost,
    StagedConflict,
    StagingFault,
    StoreCall,
    TierFault,
    WriteServed,
)
from headrace.node.messages import Audit, Event, Notice

_MAX_TEXT = 512
_EXPECTED = frozenset(
    {
        "", "NotFound", "InvalidRange", "VersionChanged", "InvalidKey", "Unsupported", "ConditionFailed", "Conflict",
        "NoSuchUpload", "InvalidPart", "PartTooSmall", "BucketExists", "BucketNotEmpty", "S3Error",
    }
)  # fmt: skip
_GIVEN_UP = "CancelledError"
_AWAY = frozenset({"Unavailable", "DeadlineExceeded", _GIVEN_UP})
_PATIENCE_S = 5.0
"""A call that is given up sooner had a caller who left; one that is given up later had no answer."""
_TELL_EVERY_S = 60.0
"""A store that comes and goes is told of no more often."""


@dataclass(slots=True)
class _MountTally:
    store_requests: int = 0
    store_errors: int = 0
    store_bytes: int = 0
    store_seconds: float = 0.0
    requests: int = 0
    bytes_served: int = 0
    error: str = ""
    checked_s: float = 0.0
    told_away_s: float = 0.0
    is_told_away: bool = False


class Tally:
    """`emit` is handed to every room. Never raises, never blocks; forwards what people must see to `tell`."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._mounts: dict[str, _MountTally] = {}
        self.served: Counter[str] = Counter()
        self.bytes_from_cache = 0
        self.store_requests = 0
        self.store_errors = 0
        self.store_bytes = 0
        self.fills = 0
        self.fill_errors = 0
        self.pages_dropped = 0
        self.corrupt_pages = 0
        self.tier_faults = 0
        self.refused = 0
        self.background_errors = 0
        self.refreshes = 0
        self.refresh_errors = 0

    def emit(self, event: object) -> None:
        if isinstance(event, StoreCall):
            self._store_call(event)
        elif isinstance(event, WriteServed):
            pass  # the gateway's own counters have it
        elif isinstance(event, ReadServed):
            self._reads(event.mount, 1, event.bytes, event.served)
        elif isinstance(event, ReadsServed):
            self._reads(event.mount, event.reads, event.bytes, event.served)
        elif isinstance(event, FillEnded):
            self.fills += 1
            self.fill_errors += bool(event.error)
        elif isinstance(event, PagesDropped):
            self.pages_dropped += event.pages
            if event.reason == "corrupt":
                self.corrupt_pages += event.pages
        else:
            self._rare(event)

    def _reads(self, mount: str, reads: int, size: int, served: str) -> None:
        row = self._row(mount)
        row.requests += reads
        row.bytes_served += size
        self.served[served] += reads
        if served in ("hit", "stale"):
            self.bytes_from_cache += size

    def _rare(self, event: object) -> None:
        if isinstance(event, AccessRefused):
            self.refused += 1
            self._tell(Audit(_cut(event.reason), _cut(event.caller), _cut(event.method), _cut(event.path), _cut(event.peer)))
        elif isinstance(event, Refreshed):
            self.refreshes += 1
            self.refresh_errors += bool(event.error)
        elif isinstance(event, TierFault):
            self.tier_faults += event.count
            self._tell(Notice(f"tier {event.tier}, {event.operation}", _cut(event.error), _cut(event.remedy)))
        elif isinstance(event, StagingFault):
            self._tell(Notice(f"journal of {event.mount}, {event.operation}", _cut(event.error), "see `headrace status`"))
        elif isinstance(event, ScratchLost):
            self._tell(
                Notice(f"scratch of {event.mount}", _cut(f"{event.key} is lost"), "readers are told; make it again, or remove it")
            )
        elif isinstance(event, StagedConflict):
            kept = f"ours is kept as {event.kept_as}" if event.kept_as else "nothing was removed"
            self._tell(
                Notice(
                    f"mount {event.mount}",
                    _cut(f"{event.key} changed at its store meanwhile; {kept}"),
                    "see `headrace conflicts`",
                )
            )
        elif isinstance(event, BackgroundError):
            self.background_errors += 1
            self._tell(Notice(f"background loop {event.loop}", _cut(event.error)))

    def forget(self, paths: frozenset[str]) -> None:
        """Drop the rows of mounts that are not in `paths`; the sums over all mounts never go down."""
        self._mounts = {path: row for path, row in self._mounts.items() if path in paths}

    def mounts(self) -> tuple[MountStats, ...]:
        return tuple(
            MountStats(
                path=path,
                store="",
                healthy=not row.error,
                error=row.error,
                checked_s=row.checked_s,
                store_requests=row.store_requests,
                store_errors=row.store_errors,
                store_bytes=row.store_bytes,
                store_seconds=row.store_seconds,
                bytes_served=row.bytes_served,
                requests=row.requests,
            )
            for path, row in self._mounts.items()
        )

    def counters(self) -> Counters:
        """What is counted here; the gateway's own counters are added by the worker."""
        return Counters(
            store_requests=self.store_requests,
            store_errors=self.store_errors,
            store_bytes=self.store_bytes,
            fills=self.fills,
            fill_errors=self.fill_errors,
            pages_dropped=self.pages_dropped,
            corrupt_pages=self.corrupt_pages,
            tier_faults=self.tier_faults,
            refused=self.refused,
            background_errors=self.background_errors,
            refreshes=self.refreshes,
            refresh_errors=self.refresh_errors,
        )

    def _row(self, mount: str) -> _MountTally:
        row = self._mounts.get(mount)
        if row is None:
            row = self._mounts[mount] = _MountTally()
        return row

    def _store_call(self, event: StoreCall) -> None:
        row = self._row(event.mount)
        row.store_requests += 1
        row.store_bytes += event.bytes
        row.store_seconds += event.seconds
        self.store_requests += 1
        self.store_bytes += event.bytes
        if event.error == _GIVEN_UP and event.seconds < _PATIENCE_S:
            return
        row.checked_s = time.time()
        failed = event.error not in _EXPECTED
        row.store_errors += failed
        self.store_errors += failed
        row.error = _cause(event) if failed else ""
        self._tell_change(event, row)

    def _tell_change(self, event: StoreCall, row: _MountTally) -> None:
        if event.error not in _AWAY:
            if row.is_told_away and not row.error:
                row.is_told_away = False
                self._tell(Notice(f"mount {event.mount}", "its store answers again"))
        elif not row.is_told_away and row.checked_s - row.told_away_s >= _TELL_EVERY_S:
            row.is_told_away, row.told_away_s = True, row.checked_s
            self._tell(Notice(f"mount {event.mount}", f"its store cannot be reached: {row.error}", "see `headrace status`"))


def _cause(event: StoreCall) -> str:
    if event.error == _GIVEN_UP:
        return f"{event.verb}: no answer within {event.seconds:.0f} s"
    return _cut(event.message) if event.message else f"{event.verb}: {event.error}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
