import errno
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.directory import NoTouches, PageDirectory, Telling
from headrace.cache.layout import Geometry
from headrace.model.disk import SystemDisk
from headrace.model.events import TierFault
from headrace.testing.clock import ManualClock

BROKEN = OSError(errno.EIO, "Input/output error")


def directory_of(root: Path, clock: ManualClock, events: list[object]) -> PageDirectory:
    return PageDirectory.open(
        str(root), Geometry(4096), disk=SystemDisk(), clock=clock, emit=events.append, touches=lambda _: NoTouches()
    )


def told(events: list[object], operation: str) -> list[int]:
    return [event.count for event in events if isinstance(event, TierFault) and event.operation == operation]


def test_a_broken_device_is_told_once_in_a_while_with_the_count(tmp_path: Path) -> None:
    clock, events = ManualClock(), list[object]()
    directory = directory_of(tmp_path, clock, events)
    for _ in range(1000):
        directory.fault("read", BROKEN)
    clock.advance(11)
    directory.fault("read", BROKEN)
    assert told(events, "read") == [1, 1000]
    assert told(events, "service") == [1]
    directory.fault("write", BROKEN)
    assert told(events, "write") == [1]
    directory.close()


def test_faults_that_were_not_told_yet_are_told_at_the_end(tmp_path: Path) -> None:
    events: list[object] = []
    directory = directory_of(tmp_path, ManualClock(), events)
    for _ in range(3):
        directory.fault("read", BROKEN)
    directory.close()
    assert told(events, "read") == [1, 2]


def test_going_out_of_service_is_told_although_its_fault_is_not(tmp_path: Path) -> None:
    events: list[object] = []
    directory = directory_of(tmp_path, ManualClock(), events)
    for _ in range(3):
        directory.fault("read", BROKEN)
    assert directory.health.out
    assert [event for event in events if isinstance(event, TierFault) and "out of service" in event.remedy]
    directory.close()


@given(st.lists(st.tuples(st.sampled_from(["read", "write"]), st.floats(0, 30)), max_size=200))
def test_every_fault_is_told_exactly_once(faults: list[tuple[str, float]]) -> None:
    telling, now = Telling(), 0.0
    counted, at = 0, dict[str, float]()
    for operation, pause in faults:
        now += pause
        count = telling.fault(operation, now)
        counted += count
        if count:
            assert now - at.get(operation, -100.0) >= 10.0
            at[operation] = now
    assert counted + sum(telling.rest().values()) == len(faults)
