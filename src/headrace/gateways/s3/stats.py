"""What a gateway counts. Counters are plain integers; a frozen copy is handed out."""

from __future__ import annotations

import heapq
import time
from collections import Counter

import msgspec

from headrace.gateways.http.server import ConnectionStats
from headrace.model.reading import Reading, Served

_HIT = Served.HIT
_REFUSED = 300


class SlowRead(msgspec.Struct, frozen=True, order=True):
    """One of the slowest reads since the start."""

    seconds: float
    path: str
    bytes: int
    served: str
    at_s: float = 0.0
    """Seconds since 1970 UTC when it ended."""


class RequestCount(msgspec.Struct, frozen=True):
    """Requests of one operation that ended in one class of status (`2xx`)."""

    operation: str
    status_class: str
    requests: int


class GatewayStats(msgspec.Struct, frozen=True):
    """Counters since the start, and what is under way now."""

    requests: tuple[RequestCount, ...]
    bytes_sent: int
    bytes_received: int
    """Of writes, framing included."""
    writes: int
    """Requests that were there to change something and did."""
    hits: int
    misses: int
    in_flight: int
    refused: int
    cut_short: int
    slowest: tuple[SlowRead, ...]
    connections: ConnectionStats


class HotReads:
    """Reads of one mount that were answered at a glance, not yet counted elsewhere."""

    __slots__ = ("bytes", "mount", "reads")

    def __init__(self, mount: str) -> None:
        self.mount = mount
        self.reads = 0
        self.bytes = 0


class Tally:
    """The counters while they run."""

    def __init__(self, slowest: int) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self.writes = 0
        self.hits = 0
        self.misses = 0
        self.started = 0
        self.ended = 0
        self.refused = 0
        self.cut_short = 0
        self.hot = 0
        """GetObject requests answered at once."""
        self._requests: Counter[tuple[str, int]] = Counter()
        self._slowest: list[SlowRead] = []
        self._slowest_kept = slowest
        self.floor_s = 0.0
        """Reads faster than this need not be told: all the kept ones were slower."""

    def request(self, operation: str, status: int) -> None:
        self.ended += 1
        self._requests[operation, status // 100] += 1

    def read(self, path: str, reading: Reading, sent: int, seconds: float) -> None:
        self.bytes_sent += sent
        if reading.served is _HIT:
            self.hits += 1
        else:
            self.misses += 1
        if seconds > self.floor_s:
            self.note_slow(SlowRead(seconds, path, sent, str(reading.served), time.time()))

    def write(self, received: int, status: int) -> None:
        self.bytes_received += received
        if status < _REFUSED:
            self.writes += 1

    def fold(self, hot: HotReads) -> None:
        """Take over what was counted at a glance."""
        self.started += hot.reads
        self.ended += hot.reads
        self.hits += hot.reads
        self.hot += hot.reads
        self.bytes_sent += hot.bytes
        hot.reads = hot.bytes = 0

    def note_slow(self, read: SlowRead) -> None:
        if self._slowest_kept <= 0:
            return
        if len(self._slowest) < self._slowest_kept:
            heapq.heappush(self._slowest, read)
        else:
            heapq.heappushpop(self._slowest, read)
        if len(self._slowest) == self._slowest_kept:
            self.floor_s = self._slowest[0].seconds

    def frozen(self, connections: ConnectionStats) -> GatewayStats:
        requests = self._requests + Counter({("GetObject", 2): self.hot})
        counts = tuple(RequestCount(name, f"{kind}xx", count) for (name, kind), count in sorted(requests.items()))
        return GatewayStats(
            requests=counts,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            writes=self.writes,
            hits=self.hits,
            misses=self.misses,
            in_flight=self.started - self.ended,
            refused=self.refused,
            cut_short=self.cut_short,
            slowest=tuple(sorted(self._slowest, reverse=True)),
            connections=connections,
        )
