"""One page directory of the disk tier: its format, its health, and the threads that wait for its device."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from headrace.cache.layout import FORMAT_FILE, SUM_SUFFIX, Geometry, SegmentName, parse_segment, tag_of
from headrace.cache.touches import Group
from headrace.model.clock import Clock
from headrace.model.disk import Disk
from headrace.model.errors import SettingsError
from headrace.model.events import TierFault
from headrace.model.objects import Emit

T = TypeVar("T")

_THREADS = 4
_CLAIM_THREADS = 2
_FAULTS_MAX = 3
_HUNG_S = 1.0
_PROBE_EVERY_S = 5.0
_TELL_EVERY_S = 10.0
_DROPPED = "dropped-"
_PROBE = "probe"


class Touching(Protocol):
    """Where news of segments goes: `touches.Touches`, or nothing."""

    def touched(self, name: str, group: Group) -> None: ...

    def created(self, name: str, size: int, group: Group) -> None: ...

    def removed(self, name: str, group: Group) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class NoTouches:
    """Nobody listens."""

    def touched(self, name: str, group: Group) -> None: ...

    def created(self, name: str, size: int, group: Group) -> None: ...

    def removed(self, name: str, group: Group) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Health:
    """Whether a device is worth asking: out of service after some faults in a row, until a probe succeeds. Pure."""

    def __init__(self) -> None:
        self.faults = 0
        self.total_faults = 0
        self.out = False
        self._probe_at = 0.0

    def fault(self, now: float) -> None:
        self.faults += 1
        self.total_faults += 1
        if self.faults >= _FAULTS_MAX:
            self.out = True
            self._probe_at = now + _PROBE_EVERY_S

    def success(self) -> None:
        self.faults = 0
        self.out = False

    def probe_due(self, now: float) -> bool:
        """Whether a probe should start now; the next one is due only later."""
        if not self.out or now < self._probe_at:
            return False
        self._probe_at = now + _PROBE_EVERY_S
        return True


class Telling:
    """Which faults are told: of each operation one in ten seconds at most, with how many went before it. Pure."""

    def __init__(self) -> None:
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def fault(self, operation: str, now: float) -> int:
        """How many faults to tell of now; 0 for none."""
        count = self._untold.pop(operation, 0) + 1
        if now - self._told_at.get(operation, float("-inf")) < _TELL_EVERY_S:
            self._untold[operation] = count
            return 0
        self._told_at[operation] = now
        return count

    def rest(self) -> dict[str, int]:
        """What was not told yet, by operation; it is told now."""
        rest, self._untold = self._untold, {}
        return rest


class PageDirectory:
    """Paths, health and threads of one page directory. Made by `open`."""

    def __init__(self, root: str, geometry: Geometry, disk: Disk, clock: Clock, emit: Emit, touches: Touching) -> None:
        self.root = root
        self.geometry = geometry
        self.disk = disk
        self.clock = clock
        self.touches = touches
        self.health = Health()
        self._telling = Telling()
        self._emit = emit
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="headrace-disk")
        self._claims = ThreadPoolExecutor(_CLAIM_THREADS, thread_name_prefix="headrace-claim")
        self._probing = False

    @classmethod
    def open(
        cls, root: str, geometry: Geometry, *, disk: Disk, clock: Clock, emit: Emit, touches: Callable[[str], Touching]
    ) -> PageDirectory:
        """Make or check the directory. Raises `SettingsError` when it cannot be used at all."""
        try:
            disk.mkdir(root)
            _check_format(disk, root, geometry)
            return cls(root, geometry, disk, clock, emit, touches(root))
        except OSError as error:
            message = f"page directory {root}: {error.strerror or error}: make it writable, or name another under [cache] disk"
            raise SettingsError(message, path=root) from error

    def usable(self) -> bool:
        """Whether the device is in service; starts a probe when one is due."""
        if not self.health.out:
            return True
        if not self._probing and self.health.probe_due(self.clock.monotonic()):
            self._probing = True
            self._threads.submit(self._probe)
        return False

    def fault(self, operation: str, error: BaseException) -> None:
        """Count a failure of the device and say so, now or together with later ones."""
        now, was_out = self.clock.monotonic(), self.health.out
        self.health.fault(now)
        text = f"{type(error).__name__}: {error}"
        self._tell(operation, text, self._telling.fault(operation, now))
        if self.health.out and not was_out:
            self._tell("service", text, self._telling.fault("service", now))

    def _tell(self, operation: str, error: str, count: int) -> None:
        if not count:
            return
        state = "out of service until a probe succeeds" if self.health.out else "passed by"
        remedy = f"{self.root} is {state}: free space or inodes, check the device, see `headrace doctor`"
        times = f" ({count} times)" if count > 1 else ""
        self._emit(TierFault("disk", operation, error + times, remedy, count))

    async def run(self, call: Callable[[], T], *, budget_s: float | None = None) -> T:
        """`call` in one of the directory's threads. Raises what it raises, or `TimeoutError` behind the budget."""
        future = self.start(call)
        if budget_s is None:
            return await future
        done, _ = await asyncio.wait((future,), timeout=budget_s)
        if not done:
            future.add_done_callback(_forget)
            asyncio.get_running_loop().call_later(_HUNG_S, self._suspect, future)
            raise TimeoutError(f"no answer within {budget_s * 1000:.0f} ms")
        return future.result()

    def _suspect(self, future: asyncio.Future[T]) -> None:
        # A busy machine is late too; a device that is still silent now is not well.
        if not future.done():
            self.fault("read", TimeoutError(f"no answer for {_HUNG_S:.0f} s"))

    def start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """`call` begun in one of the directory's threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    def start_claim(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """The same in threads of their own: a reader waits for a claim, which must not queue behind long writes."""
        return asyncio.get_running_loop().run_in_executor(self._claims, call)

    def submit(self, call: Callable[[], object]) -> None:
        """`call` in one of the directory's threads, without waiting; it must not raise."""
        self._threads.submit(call)

    def remove(self, name: SegmentName, group: Group) -> None:
        """Unlink a segment, whatever lies under its name. Raises `OSError`."""
        path = f"{self.root}/{name.path}"
        for victim in (path, path + SUM_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                try:
                    self.disk.unlink(victim)
                except (IsADirectoryError, PermissionError):
                    self.disk.rmtree(victim)
        self.touches.removed(path.rpartition("/")[2], group)

    def segments(self, object_id: bytes) -> list[SegmentName]:
        """The segments of one object that are there. Raises `OSError`."""
        hexed = object_id.hex()
        try:
            names = self.disk.names(f"{self.root}/{hexed[:3]}")
        except FileNotFoundError:
            return []
        parsed = (parse_segment(name) for name in names if name.startswith(hexed))
        return [name for name in parsed if name is not None]

    def segments_of_mount(self, tag: bytes) -> list[SegmentName]:
        """Every segment of one mount. Raises `OSError`."""
        found: list[SegmentName] = []
        for folder in self.disk.names(self.root):
            if len(folder) == 3:
                parsed = (parse_segment(name) for name in self.disk.names(f"{self.root}/{folder}"))
                found += [name for name in parsed if name is not None and tag_of(name.object_id) == tag]
        return found

    def close(self) -> None:
        for operation, count in self._telling.rest().items():
            self._tell(operation, "faults that were not told one by one", count)
        self.touches.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._claims.shutdown(wait=False, cancel_futures=True)

    def _probe(self) -> None:
        path = f"{self.root}/{_PROBE}-{os.getpid()}-{threading.get_ident()}"
        try:
            fd = self.disk.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                if self.disk.pwrite(fd, b"probe", 0) == 5 and self.disk.pread(fd, 5, 0) == b"probe":
                    self.health.success()
            finally:
                self.disk.close(fd)
                self.disk.unlink(path)
        except OSError:
            return  # still out of service: the next probe is due later
        finally:
            self._probing = False


def _forget(future: asyncio.Future[T]) -> None:
    """An answer that came too late: its error was already told as a time-out."""
    if not future.cancelled():
        future.exception()


def _check_format(disk: Disk, root: str, geometry: Geometry) -> None:
    """Drop what another format or page size has left. Raises `OSError`."""
    path = f"{root}/{FORMAT_FILE}"
    wanted = geometry.format_text.encode()
    lock = disk.open(path + ".lock", os.O_RDWR | os.O_CREAT)
    try:
        while not disk.lock(lock):
            threading.Event().wait(0.01)
        if _content(disk, path) != wanted:
            aside = f"{root}/{_DROPPED}{os.getpid()}"
            disk.mkdir(aside)
            for name in disk.names(root):
                if len(name) == 3:
                    disk.rename(f"{root}/{name}", f"{aside}/{name}")
            fd = disk.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                disk.pwrite(fd, wanted, 0)
            finally:
                disk.close(fd)
            disk.rename(path + ".new", path)
        for name in disk.names(root):
            if name.startswith(_DROPPED):
                disk.rmtree(f"{root}/{name}")
    finally:
        disk.close(lock)


def _content(disk: Disk, path: str) -> bytes:
    try:
        fd = disk.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return disk.pread(fd, 4096, 0)
    finally:
        disk.close(fd)
