import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.cache.keeper import Keeper, Space
from headrace.cache.layout import Geometry, Kind, SegmentName, object_id, pin_path
from headrace.cache.touches import SOCKET_NAME, Group, Touches
from headrace.model.clock import SystemClock
from headrace.model.events import BackgroundError, PagesDropped, TierFault

PAGE = 4096
GEOMETRY = Geometry(PAGE)
DISK_PAGE = 8192
"""Disk space of one page with its footer."""
ROOMY = Space(1 << 40, 1 << 30, 0)


def page_name(number: int, mount: str = "m") -> SegmentName:
    return SegmentName(object_id(mount, f"key{number}", "v"), Kind.PAGE, number % 7)


def write(root: Path, name: SegmentName, size: int = PAGE + 16) -> Path:
    path = root / name.path
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def eventually(holds: Callable[[], object], timeout_s: float = 15.0) -> None:
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, "did not come to hold in time"
        time.sleep(0.01)


class Running:
    """A keeper in a thread, with the events that it told."""

    def __init__(self, root: Path, capacity: int = 100 * DISK_PAGE, space: Space = ROOMY) -> None:
        self.events: list[object] = []
        self.space = space
        self.keeper = Keeper(
            str(root), capacity, GEOMETRY, clock=SystemClock(), emit=self.events.append, measure=lambda _: self.space
        )
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.keeper.run, args=(self.stop,))
        self.thread.start()

    def dropped(self, reason: str) -> int:
        return sum(event.pages for event in self.events if isinstance(event, PagesDropped) and event.reason == reason)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(timeout=20)
        assert not self.thread.is_alive()


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(**options: object) -> Running:
        running.append(Running(tmp_path, **options))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for one in running:
        one.end()


def test_it_accounts_for_what_it_finds_at_start(tmp_path: Path, keep: Callable[..., Running]) -> None:
    for number in range(50):
        write(tmp_path, page_name(number))
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    stats = running.keeper.stats()
    assert (stats.elected, stats.segments, stats.bytes) == (True, 50, 50 * DISK_PAGE)
    assert stats.age_s < 5


def test_more_than_the_capacity_is_evicted_down_to_the_low_mark(tmp_path: Path, keep: Callable[..., Running]) -> None:
    for number in range(300):
        write(tmp_path, page_name(number))
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    left = len(list(tmp_path.glob("???/*.p*")))
    assert left == running.keeper.stats().segments
    assert 85 <= left <= 95
    assert running.dropped("evicted") == 300 - left


def test_segments_told_by_datagram_count_and_are_bounded(tmp_path: Path, keep: Callable[..., Running]) -> None:
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    touches = Touches(tmp_path)
    group = Group(object_id("m", "", "")[12:])
    for number in range(200):
        name = page_name(number)
        path = write(tmp_path, name)
        touches.created(path.name, path.stat().st_size, group)
    touches.close()
    eventually(lambda: running.dropped("evicted") > 100)
    assert running.keeper.stats().bytes <= 95 * DISK_PAGE


def test_what_is_read_again_outlives_what_is_not(tmp_path: Path, keep: Callable[..., Running]) -> None:
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    touches = Touches(tmp_path)
    group = Group(object_id("m", "", "")[12:])
    hot = [write(tmp_path, page_name(number)) for number in range(20)]
    for path in hot:
        touches.created(path.name, path.stat().st_size, group)
    touches.flush()
    eventually(lambda: running.keeper.stats().segments == 20)
    for path in hot:
        touches.touched(path.name, group)
    touches.flush()
    for number in range(100, 400):
        path = write(tmp_path, page_name(number))
        touches.created(path.name, path.stat().st_size, group)
    touches.close()
    eventually(lambda: running.dropped("evicted") > 200)
    assert all(path.exists() for path in hot)


def test_pinned_objects_are_never_evicted(tmp_path: Path, keep: Callable[..., Running]) -> None:
    pinned = [write(tmp_path, page_name(number)) for number in range(30)]
    for number in range(30):
        (tmp_path / pin_path(page_name(number).object_id)).touch()
    for number in range(100, 300):
        write(tmp_path, page_name(number))
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    assert all(path.exists() for path in pinned)
    assert running.keeper.stats().bytes <= 95 * DISK_PAGE


def test_a_pin_set_after_it_looked_is_seen_before_unlinking(tmp_path: Path, keep: Callable[..., Running]) -> None:
    for number in range(90):
        write(tmp_path, page_name(number))
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    for number in range(90):
        (tmp_path / pin_path(page_name(number).object_id)).touch()
    touches = Touches(tmp_path)
    for number in range(100, 120):
        path = write(tmp_path, page_name(number))
        touches.created(path.name, path.stat().st_size, Group(b"none"))
    touches.close()
    # How many go depends on how the datagrams were cut: after the last one at most the high mark's 95 of the 110 are left.
    eventually(lambda: running.dropped("evicted") >= 15)
    assert all((tmp_path / page_name(number).path).exists() for number in range(90))
    assert running.keeper.stats().pinned_bytes > 0


def test_a_mount_over_its_quota_gives_up_its_own_segments(tmp_path: Path, keep: Callable[..., Running]) -> None:
    for number in range(30):
        write(tmp_path, page_name(number, "big"))
        write(tmp_path, page_name(number, "other"))
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    touches = Touches(tmp_path)
    touches.touched(page_name(0, "big").path[4:], Group(object_id("big", "", "")[12:], quota_bytes=10 * DISK_PAGE))
    touches.close()
    eventually(lambda: running.dropped("quota") >= 20)
    assert sum((tmp_path / page_name(number, "other").path).exists() for number in range(30)) == 30
    assert sum((tmp_path / page_name(number, "big").path).exists() for number in range(30)) in (9, 10)


def test_segments_not_read_for_their_mounts_ttl_expire(tmp_path: Path, keep: Callable[..., Running]) -> None:
    for number in range(10):
        path = write(tmp_path, page_name(number))
        if number < 5:
            os.utime(path, (time.time() - 1000,) * 2)
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    touches = Touches(tmp_path)
    touches.touched("nothing", Group(object_id("m", "", "")[12:], ttl_s=500))
    touches.close()
    eventually(lambda: running.dropped("expired") == 5)
    assert running.keeper.stats().segments == 5


def test_segments_that_cannot_be_right_are_dropped(tmp_path: Path, keep: Callable[..., Running]) -> None:
    bad = [
        write(tmp_path, page_name(1), 0),
        write(tmp_path, page_name(2), PAGE + 17),
        write(tmp_path, SegmentName(object_id("m", "k", "v"), Kind.WHOLE), 3 * PAGE),
        write(tmp_path, SegmentName(object_id("m", "k2", "v"), Kind.CHUNK, 3), 65 * PAGE),
    ]
    folder = tmp_path / page_name(3).path
    folder.mkdir(parents=True)
    good = write(tmp_path, page_name(4))
    long = write(tmp_path, SegmentName(object_id("m", "k3", "v"), Kind.CHUNK, 0), 64 * PAGE)
    long.with_name(long.name + ".sum").write_bytes(b"sums")
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    assert not any(path.exists() for path in [*bad, folder])
    assert good.exists()
    assert long.exists()
    assert running.dropped("corrupt") == 5


def test_parts_and_sums_that_nobody_works_on_are_swept(tmp_path: Path, keep: Callable[..., Running]) -> None:
    old = time.time() - 1000
    orphan = write(tmp_path, page_name(1)).with_suffix(".p1.part")
    orphan.write_bytes(b"half")
    led = tmp_path / page_name(2).path[:3] / (page_name(2).object_id.hex() + ".c0.part")
    led.parent.mkdir(exist_ok=True)
    led.write_bytes(b"growing")
    lone = led.with_name(page_name(2).object_id.hex() + ".w.sum")
    lone.write_bytes(b"sums")
    young = led.with_name(page_name(2).object_id.hex() + ".c1.sum")
    for path in (orphan, led, lone):
        path.touch()
        os.utime(path, (old, old))
    young.write_bytes(b"sums")
    with led.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        running = keep()
        eventually(lambda: running.keeper.stats().complete)
        assert (orphan.exists(), led.exists(), lone.exists(), young.exists()) == (False, True, False, True)


def test_half_pages_of_a_crash_go_at_the_start_however_young(tmp_path: Path, keep: Callable[..., Running]) -> None:
    folder = tmp_path / page_name(1).path[:3]
    folder.mkdir()
    stem = page_name(1).object_id.hex()
    dead, led, sums = (folder / f"{stem}.{name}" for name in ("p1.part", "c0.part", "c0.sum.part"))
    for path in (dead, led, sums):
        path.write_bytes(b"half")
    with led.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        running = keep()
        eventually(lambda: running.keeper.stats().complete)
        # Sidecars on their way to their name are locked by nobody, so these wait until they are old.
        assert (dead.exists(), led.exists(), sums.exists()) == (False, True, True)


def test_a_device_that_is_full_makes_it_let_go_below_the_capacity(tmp_path: Path, keep: Callable[..., Running]) -> None:
    for number in range(50):
        write(tmp_path, page_name(number))
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    running.space = Space(free_bytes=0, free_inodes=1 << 20, reserve_bytes=20 * DISK_PAGE)
    eventually(lambda: running.dropped("evicted") >= 20)
    running.space = ROOMY
    assert running.dropped("evicted") + running.keeper.stats().segments == 50, "what is not counted any more was let go"


def test_only_one_keeps_and_the_next_takes_over(tmp_path: Path, keep: Callable[..., Running]) -> None:
    first = keep()
    eventually(lambda: first.keeper.stats().elected)
    second = keep()
    time.sleep(0.05)
    assert not second.keeper.stats().elected
    first.end()
    eventually(lambda: second.keeper.stats().complete)
    assert (tmp_path / SOCKET_NAME).exists()


def test_it_survives_an_error_of_its_own_and_says_so(tmp_path: Path, keep: Callable[..., Running]) -> None:
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    failing = threading.Event()
    measured = running.keeper._measure

    def broken(root: str) -> Space:
        if failing.is_set():
            raise OSError(5, "Input/output error")
        return measured(root)

    running.keeper._measure = broken
    failing.set()
    eventually(lambda: any(isinstance(event, BackgroundError) for event in running.events))
    failing.clear()
    eventually(lambda: running.keeper.stats().complete)


def test_segments_removed_by_others_leave_the_accounts(tmp_path: Path, keep: Callable[..., Running]) -> None:
    paths = [write(tmp_path, page_name(number)) for number in range(20)]
    running = keep()
    eventually(lambda: running.keeper.stats().complete)
    touches = Touches(tmp_path)
    for path in paths[:10]:
        path.unlink()
        touches.removed(path.name, Group(b"tag1"))
    touches.close()
    eventually(lambda: running.keeper.stats().segments == 10)
    for path in paths[10:]:
        path.unlink()
    eventually(lambda: running.keeper.stats().segments == 0)
    assert running.dropped("evicted") == 0, "nothing of it is told as evicted"


def test_what_cannot_be_unlinked_is_told_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        write(tmp_path, page_name(number))

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    real = os.unlink
    monkeypatch.setattr(
        "headrace.cache.keeper.os.unlink", lambda path, **at: refuse(path) if ".p" in str(path)[-5:] else real(path, **at)
    )
    running = Running(tmp_path)
    try:
        eventually(lambda: running.keeper.stats().complete)
        faults = [event for event in running.events if isinstance(event, TierFault)]
        assert len(faults) == 1
        assert "make it writable" in faults[0].remedy
    finally:
        running.end()
