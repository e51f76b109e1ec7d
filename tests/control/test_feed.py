"""Reading notifications from a log: every message at least once, in whatever state log, node and position are."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control.feed import Bounds, Feed, Message, Place, PositionLost, settle, wait_before_retry
from headrace.control.notifications import ChangedObject
from headrace.model.clock import SystemClock
from headrace.model.errors import Unavailable
from support.fake_node import FakeNode

TOPIC = "s3-events"
ONE: Place = (TOPIC, 0)
TWO: Place = (TOPIC, 1)


class Log:
    """A log in memory that outlives its readers. What is in `troubles` is raised by the next verbs, one each."""

    def __init__(self, *places: Place) -> None:
        self.bodies: dict[Place, list[bytes]] = {place: [] for place in places}
        self.first = dict.fromkeys(places, 0)
        self.committed: dict[Place, int] = {}
        self.troubles: dict[str, list[Exception]] = {}
        self.opened = 0
        self.closed = 0
        self.came = asyncio.Event()

    def add(self, place: Place, *keys: str, body: bytes | None = None) -> None:
        told = {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": key}}} for key in keys]}
        self.bodies[place].append(json.dumps(told).encode() if body is None else body)
        self.came.set()

    def forget(self, place: Place, until: int) -> None:
        self.first[place] = until

    async def open(self) -> LogReader:
        self.opened += 1
        return LogReader(self)

    def fail(self, verb: str) -> None:
        if self.troubles.get(verb):
            raise self.troubles[verb].pop(0)


class LogReader:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.at: dict[Place, int] = {}

    async def places(self) -> tuple[Place, ...]:
        self.log.fail("places")
        return tuple(self.log.bodies)

    async def committed(self, places: Sequence[Place]) -> dict[Place, int]:
        return {place: self.log.committed[place] for place in places if place in self.log.committed}

    async def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        return {place: Bounds(self.log.first[place], len(self.log.bodies[place])) for place in places}

    async def begin(self, starts: Mapping[Place, int]) -> None:
        self.at = dict(starts)

    async def take(self, timeout_s: float) -> tuple[Message, ...]:
        self.log.fail("take")
        for place, offset in self.at.items():
            if offset < self.log.first[place]:
                raise PositionLost(place)
            bodies = self.log.bodies[place][offset:]
            if bodies:
                self.at[place] += len(bodies)
                return tuple(Message(place, offset + number, body) for number, body in enumerate(bodies))
        self.log.came.clear()
        await self.log.came.wait()
        return ()

    async def commit(self, nexts: Mapping[Place, int]) -> None:
        self.log.fail("commit")
        self.log.committed |= nexts

    async def close(self) -> None:
        self.log.closed += 1


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


class Reading:
    """A feed that runs in the background until the log is read to its end."""

    def __init__(self, log: Log, node: FakeNode) -> None:
        self.log = log
        self.feed = Feed("test", log.open, node, SystemClock(), pause=no_pause)

    async def __aenter__(self) -> Reading:
        self.task = asyncio.create_task(self.feed.run())
        await self.at_rest()
        return self

    async def at_rest(self) -> None:
        def behind() -> bool:
            return any(self.log.committed.get(place, -1) < len(bodies) for place, bodies in self.log.bodies.items())

        async with asyncio.timeout(10):
            while behind() or any(self.log.troubles.values()) or not self.feed.stats.connected:
                self.log.came.set()
                await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


def keys(node: FakeNode) -> list[str]:
    return [changed.key for changed in node.changes]


async def test_the_first_start_begins_at_the_end_and_voids_all_that_is_known() -> None:
    log, node = Log(ONE), FakeNode()
    log.add(ONE, "long ago")
    async with Reading(log, node) as reading:
        assert (keys(node), node.missed, log.committed) == ([], 1, {ONE: 1})
        log.add(ONE, "now")
        await reading.at_rest()
    assert node.changes == [ChangedObject("b", "now")]
    assert node.missed == 1
    assert reading.feed.stats.gaps == 1


async def test_a_later_start_goes_on_where_the_last_one_was_and_voids_nothing() -> None:
    log, node = Log(ONE, TWO), FakeNode()
    log.committed = {ONE: 0, TWO: 1}
    log.add(ONE, "a")
    log.add(TWO, "seen")
    log.add(TWO, "b")
    async with Reading(log, node) as reading:
        assert sorted(keys(node)) == ["a", "b"]
    assert node.missed == 0
    assert reading.feed.stats.waiting == 0


async def test_a_position_that_the_log_no_longer_has_is_a_gap_at_the_start_and_later() -> None:
    log, node = Log(ONE), FakeNode()
    for number in range(5):
        log.add(ONE, f"old {number}")
    log.forget(ONE, 3)
    log.committed = {ONE: 1}
    async with Reading(log, node) as reading:
        assert (keys(node), node.missed) == ([], 1)
        for _ in range(3):
            log.bodies[ONE].append(b"never seen")
        log.forget(ONE, 7)
        await reading.at_rest()
        assert node.missed == 2
        log.add(ONE, "next")
        await reading.at_rest()
    assert keys(node) == ["next"]
    assert log.closed == log.opened == 1, "a gap needs no new connection"


async def test_a_log_that_begins_anew_is_a_gap() -> None:
    log, node = Log(ONE), FakeNode()
    log.committed = {ONE: 70}
    log.add(ONE, "of another log")
    async with Reading(log, node):
        assert (keys(node), node.missed, log.committed) == ([], 1, {ONE: 1})


async def test_nothing_is_committed_before_it_has_taken_effect(caplog: pytest.LogCaptureFixture) -> None:
    log, node = Log(ONE), FakeNode()
    log.committed = {ONE: 0}
    log.add(ONE, "a", "b")
    node.change_failures = [Unavailable("no serving process"), Unavailable("no serving process")]
    async with Reading(log, node) as reading:
        assert keys(node) == ["a", "b"]
    assert (log.opened, log.closed) == (3, 3)
    assert reading.feed.stats.errors == 2
    assert "no serving process" in caplog.text


async def test_a_failed_commit_repeats_messages_and_loses_none() -> None:
    log, node = Log(ONE), FakeNode()
    log.committed = {ONE: 0}
    log.add(ONE, "a")
    log.troubles = {"commit": [Unavailable("the coordinator moves")]}
    async with Reading(log, node):
        assert keys(node) == ["a", "a"]


@pytest.mark.parametrize("verb", ["places", "take"])
async def test_every_failure_is_survived_and_shown(verb: str, caplog: pytest.LogCaptureFixture) -> None:
    log, node = Log(ONE), FakeNode()
    log.committed = {ONE: 0}
    log.add(ONE, "a")
    log.troubles = {verb: [Unavailable("brokers are down"), ZeroDivisionError("a fault of the library"), Unavailable("still")]}
    with caplog.at_level(logging.WARNING):
        async with Reading(log, node) as reading:
            assert keys(node) == ["a"]
            assert (reading.feed.stats.errors, reading.feed.stats.error) == (3, "")
            assert reading.feed.stats.connected
    assert node.missed == 0
    assert "brokers are down" in caplog.text
    assert "a fault of the library" in caplog.text
    assert log.closed == log.opened == 4


async def test_what_is_no_notification_is_counted_told_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    log, node = Log(ONE), FakeNode()
    log.committed = {ONE: 0}
    log.add(ONE, body=b"no json")
    log.add(ONE, "good")
    log.add(ONE, body=b"")
    log.add(ONE, body=b'{"Service": "Amazon S3", "Event": "s3:TestEvent"}')
    async with Reading(log, node) as reading:
        assert keys(node) == ["good"]
    stats = reading.feed.stats
    assert (stats.messages, stats.malformed, stats.objects, stats.errors) == (4, 2, 1, 0)
    assert stats.last_s > 0
    assert f"{TOPIC}/0, offset 0 is passed over" in caplog.text
    assert "1 more messages were passed over" in caplog.text


async def test_an_object_named_often_is_asked_for_once_and_many_go_in_bounded_messages() -> None:
    log, node = Log(ONE), FakeNode()
    log.committed = {ONE: 0}
    for _ in range(3):
        log.add(ONE, *(f"k{number}" for number in range(1500)))
    async with Reading(log, node):
        assert sorted(keys(node)) == sorted(f"k{number}" for number in range(1500))


async def test_partitions_that_appear_later_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.control.feed.LOOK_EVERY_S", 0.0)
    log, node = Log(ONE), FakeNode()
    log.committed = {ONE: 0}
    async with Reading(log, node) as reading:
        log.bodies[TWO], log.first[TWO] = [b"before it was noticed"], 0
        log.add(ONE, "a")
        await reading.at_rest()
        log.add(TWO, "b")
        await reading.at_rest()
    assert keys(node) == ["a", "b"]
    assert node.missed == 1, "what was said in it before may have been missed"


offsets = st.integers(min_value=0, max_value=50)


@given(
    st.dictionaries(st.sampled_from([ONE, TWO]), st.integers(min_value=-1, max_value=60)),
    st.dictionaries(st.sampled_from([ONE, TWO]), st.tuples(offsets, offsets).map(lambda pair: Bounds(min(pair), max(pair)))),
)
def test_reading_goes_on_without_a_gap_or_begins_at_the_end(known: dict[Place, int], bounds: dict[Place, Bounds]) -> None:
    starts, lost = settle(known, bounds)
    assert starts.keys() == bounds.keys()
    for place, start in starts.items():
        if place in lost:
            assert start == bounds[place].end
            assert place not in known or not bounds[place].first <= known[place] <= bounds[place].end
        else:
            assert start == known[place]
            assert bounds[place].first <= start <= bounds[place].end


def test_waits_grow_to_a_bound_and_never_vanish() -> None:
    waits = [wait_before_retry(failures, 0.0) for failures in range(1, 40)]
    assert waits == sorted(waits)
    assert waits[0] == 0.25
    assert wait_before_retry(10**6, 0.999) <= 30.0
