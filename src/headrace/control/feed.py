"""A feed: stores' notifications read from a log with positions, such as Kafka's. At least once, never silently past a gap.

Where it is not known that every message since the last look will be seen (the first start, a position that the log no longer
has), reading begins at the log's end and everything known of any object is voided: what the lost messages would have said of
single objects is then true of all of them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from headrace.control.node_view import FeedStats, NodeView
from headrace.control.notifications import ChangedObject, parse_notification
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError, SettingsError

_log = logging.getLogger(__name__)

TAKE_S = 1.0
LOOK_EVERY_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_TELL_AT_ONCE = 1000
_LOST = -1

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""
Pause = Callable[[float], Awaitable[None]]


class Message(msgspec.Struct, frozen=True):
    """One message as it lies in the log."""

    place: Place
    offset: int
    body: bytes


class Bounds(msgspec.Struct, frozen=True):
    """The offsets that a partition has: from `first` up to, not including, `end`."""

    first: int
    end: int


class PositionLost(Exception):
    """The log does not have what follows at `place` any more."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"{place[0]}/{place[1]}")
        self.place = place


class Reader(Protocol):
    """A connection to a log. Verbs raise only `HeadraceError`s, but `take` also `PositionLost`."""

    async def places(self) -> tuple[Place, ...]:
        """All partitions there are now."""

    async def committed(self, places: Sequence[Place]) -> dict[Place, int]:
        """Offsets of the next message to read, as last committed; without those never committed."""

    async def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        """What the log has now."""

    async def begin(self, starts: Mapping[Place, int]) -> None:
        """Read these places from these offsets on, and no others."""

    async def take(self, timeout_s: float) -> tuple[Message, ...]:
        """Messages in the order of each place; none when none came within the time."""

    async def commit(self, nexts: Mapping[Place, int]) -> None:
        """Everything before these offsets has taken effect. May return before it is durable."""

    async def close(self) -> None:
        """Free connections; never raises."""


def settle(known: Mapping[Place, int], bounds: Mapping[Place, Bounds]) -> tuple[dict[Place, int], tuple[Place, ...]]:
    """Where to read on in each place, and the places where messages may have been missed. Pure."""
    starts: dict[Place, int] = {}
    lost: list[Place] = []
    for place, has in bounds.items():
        at = known.get(place, _LOST)
        if not has.first <= at <= has.end:
            lost.append(place)
            at = has.end
        starts[place] = at
    return starts, tuple(lost)


def wait_before_retry(failures: int, jitter: float) -> float:
    """Seconds until the next try after so many failures in a row; `jitter` lies in [0, 1)."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10)) * (0.5 + jitter / 2)


class Feed:
    """Reads one log for as long as it runs, whatever happens to it."""

    def __init__(
        self,
        name: str,
        open_reader: Callable[[], Awaitable[Reader]],
        node: NodeView,
        clock: Clock,
        *,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._open = open_reader
        self._node = node
        self._clock = clock
        self._pause = pause
        self.stats = FeedStats(name)

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            before = self.stats.messages
            try:
                await self._session()
            except HeadraceError as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - a feed survives any fault of a library: ended, it would hear of nothing more
                _log.exception("notifications from %s", self.stats.name)
                reason = f"{type(error).__name__}: {error}"
            failures = 1 if self.stats.connected or self.stats.messages > before else failures + 1
            wait_s = wait_before_retry(failures, random.random())  # noqa: S311 - spreads retries, protects nothing
            self._note(connected=False, errors=self.stats.errors + 1, error=reason)
            _log.warning("notifications from %s: %s; trying again in %.1f s", self.stats.name, reason, wait_s)
            await self._pause(wait_s)

    async def _session(self) -> None:
        reader = await self._open()
        try:
            positions = await self._look(reader, {})
            looked_s = self._clock.monotonic()
            while True:
                try:
                    messages = await reader.take(TAKE_S)
                except PositionLost as lost:
                    positions = await self._look(reader, {**positions, lost.place: _LOST})
                    continue
                if messages:
                    await self._apply(messages)
                    nexts = {message.place: message.offset + 1 for message in messages}
                    positions |= nexts
                    await reader.commit(nexts)
                if self._clock.monotonic() - looked_s >= LOOK_EVERY_S:
                    positions = await self._look(reader, positions)
                    looked_s = self._clock.monotonic()
        finally:
            await reader.close()

    async def _look(self, reader: Reader, positions: dict[Place, int]) -> dict[Place, int]:
        """Compare positions with what the log has; read on where nothing is lost, else at the end with all known voided."""
        places = await reader.places()
        new = [place for place in places if place not in positions]
        known = positions | (await reader.committed(new) if new else {})
        bounds = await reader.bounds(places)
        starts, lost = settle(known, bounds)
        if lost:
            where = ", ".join(f"{topic}/{number}" for topic, number in lost[:10])
            _log.warning(
                "notifications from %s: it is not known what was said so far in %s; everything known is asked for again",
                self.stats.name,
                where,
            )
            await self._node.changes_missed()
        if starts != positions:
            await reader.begin(starts)
        if lost:
            await reader.commit({place: starts[place] for place in lost})
        waiting = sum(bounds[place].end - start for place, start in starts.items())
        self._note(connected=True, error="", waiting=waiting, gaps=self.stats.gaps + bool(lost))
        return starts

    async def _apply(self, messages: Sequence[Message]) -> None:
        objects: dict[ChangedObject, None] = {}
        malformed = 0
        for message in messages:
            try:
                objects |= dict.fromkeys(parse_notification(message.body))
            except SettingsError as error:
                if not malformed:
                    _log.warning("%s/%d, offset %d is passed over: %s", *message.place, message.offset, error)
                malformed += 1
        if malformed > 1:
            _log.warning("notifications from %s: %d more messages were passed over", self.stats.name, malformed - 1)
        named = tuple(objects)
        for first in range(0, len(named), _TELL_AT_ONCE):
            await self._node.changed(named[first : first + _TELL_AT_ONCE])
        self._note(
            messages=self.stats.messages + len(messages),
            objects=self.stats.objects + len(objects),
            malformed=self.stats.malformed + malformed,
            last_s=self._clock.time(),
            waiting=max(0, self.stats.waiting - len(messages)),
        )

    def _note(self, **changed: object) -> None:
        self.stats = msgspec.structs.replace(self.stats, **changed)
