"""One direction of a link as arithmetic: a shared rate, a constant delay, losses. No IO and no clock."""

from __future__ import annotations

import heapq
import math
import random
from collections import OrderedDict, deque

import msgspec

UNIT_BYTES = 16 * 1024
"""Flows take turns by units of this size, so one of many waits for at most one unit of each other."""

_PACKET_BYTES = 1460
_CATCH_UP_S = 0.05


class Arrival(msgspec.Struct, frozen=True):
    """What comes out at the far end: bytes, or with empty `data` the end of the flow."""

    flow: int
    data: memoryview


class Lane:
    """Bytes of many flows on one wire: sent at `rate` bytes per second (0: no bound), there `delay_s` later.

    A lost packet is what TCP makes of it: its unit, and all behind it in the flow, come `resend_s` later.
    Callers pass `now` in and must pass values that do not fall.
    """

    def __init__(self, *, rate: float, delay_s: float, loss: float = 0.0, resend_s: float = 0.0, seed: int = 0) -> None:
        self._rate = rate
        self._delay_s = delay_s
        self._loss = loss
        self._resend_s = resend_s
        self._random = random.Random(seed)  # noqa: S311 - losses are reproducible, not secret
        self._queues: OrderedDict[int, deque[memoryview]] = OrderedDict()
        self._flying: list[tuple[float, int, Arrival]] = []
        self._held: dict[int, float] = {}
        self._sent = 0
        self._free_at = -math.inf
        self.carried_bytes = 0
        """Bytes put on the wire so far, whether or not they have arrived."""
        self.lost_units = 0

    def offer(self, flow: int, data: bytes, now: float) -> None:
        """Queue `data` of `flow`; empty data ends the flow."""
        if not self._queues:
            self._free_at = max(self._free_at, now)
        queue = self._queues.get(flow)
        if queue is None:
            queue = self._queues[flow] = deque()
        view = memoryview(data)
        if not data:
            queue.append(view)
        for start in range(0, len(data), UNIT_BYTES):
            queue.append(view[start : start + UNIT_BYTES])

    def advance(self, now: float) -> list[Arrival]:
        """Put on the wire what it has time for until `now`, and hand out what has arrived by then."""
        self._free_at = max(self._free_at, now - _CATCH_UP_S) if self._queues else self._free_at
        while self._queues and self._free_at <= now:
            self._send_one()
        arrived: list[Arrival] = []
        while self._flying and self._flying[0][0] <= now:
            arrived.append(heapq.heappop(self._flying)[2])
        return arrived

    def next_at(self) -> float | None:
        """When `advance` has something to do again; None when the lane is empty."""
        moments = [self._free_at] if self._queues else []
        if self._flying:
            moments.append(self._flying[0][0])
        return min(moments) if moments else None

    def drop(self, flow: int) -> None:
        """Forget a flow: what is queued is not sent, what flies does not arrive."""
        self._queues.pop(flow, None)
        self._held.pop(flow, None)
        if any(entry[2].flow == flow for entry in self._flying):
            self._flying = [entry for entry in self._flying if entry[2].flow != flow]
            heapq.heapify(self._flying)

    def _send_one(self) -> None:
        flow, queue = self._queues.popitem(last=False)
        unit = queue.popleft()
        if queue:
            self._queues[flow] = queue
        if self._rate:
            self._free_at += len(unit) / self._rate
        self.carried_bytes += len(unit)
        arrives = max(self._free_at + self._delay_s, self._held.get(flow, -math.inf))
        if self._loss and self._random.random() < 1 - (1 - self._loss) ** max(1, math.ceil(len(unit) / _PACKET_BYTES)):
            self.lost_units += 1
            arrives += self._resend_s
            self._held[flow] = arrives
        self._sent += 1
        heapq.heappush(self._flying, (arrives, self._sent, Arrival(flow, unit)))
