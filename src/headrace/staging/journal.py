"""The journal of one mount: logs that every process of the node appends to and reads.

`<directory>/NNNNNN.log` hold the records, the highest number is the one that grows. Whoever appends holds `lock`; what a killed
process left half written is cut off by the next. A record counts once it is fsynced: up to where that is so, is told to all
processes in `durable`, a mapped file, and only so far do they read. Bodies too long for a record lie in `bodies/`, fsynced
before the record that names them.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator, Sequence

import msgspec

from headrace.model.disk import Disk
from headrace.model.errors import HeadraceError, SettingsError
from headrace.staging.backlog import Backlog, Staged
from headrace.staging.bodies import Bodies
from headrace.staging.damaged import set_aside
from headrace.staging.logs import Logs
from headrace.staging.records import Damage, Put, Record, decode, scan

LOG_BYTES = 64 << 20
PLACE_FILE, MOUNT_FILE = "place", "mount"
_OFFSET_BITS = 40


class JournalFailed(HeadraceError):
    """The journal's disk failed or is full: what was to be appended is not acknowledged."""


class Found(msgspec.Struct, frozen=True):
    """Damage that the opening of a journal met and set aside, for the operator."""

    log: int
    damage: Damage
    is_tail: bool


class Journal:
    """One process's view. `append` and `remove_before` block: call them in one thread; all else on the event loop."""

    def __init__(self, root: str, disk: Disk, *, log_bytes: int = LOG_BYTES) -> None:
        self.root = root
        self.disk = disk
        self.backlog = Backlog()
        self.found: list[Found] = []
        self._log_bytes = log_bytes
        self._logs = Logs(root, disk)
        self.bodies = Bodies(root, disk)
        self._appending = threading.RLock()
        self._read = (0, 0)
        """Up to where the records are in `backlog`."""
        try:
            for path in (root, self.bodies.folder):
                disk.mkdir(path)
            self._lock_fd = disk.open(f"{root}/lock", os.O_RDWR | os.O_CREAT)
            self._durable = self._map(f"{root}/durable")
            self._recover()
        except OSError as error:
            raise SettingsError(
                f'the journal {root} cannot be opened ({error.strerror}): make it writable, or take write = "back" off the mount',
                path=root,
            ) from error

    def belongs_to(self, place: str) -> None:
        """Say whose writes these are: `place` names the store. Raises `SettingsError` while another store's are staged here."""
        path = f"{self.root}/{PLACE_FILE}"
        descriptor = self.disk.open(path, os.O_RDWR | os.O_CREAT)
        try:
            told = self.disk.pread(descriptor, 1 << 16, 0).decode("utf-8", "replace")
            if told and told != place and len(self.backlog):
                raise SettingsError(
                    f"{len(self.backlog)} writes in {self.root} have not reached the store {told.split()[-1]}: put the mount "
                    "back as it was until `headrace sync --wait` has brought them there",
                    path=self.root,
                )
            if told != place:
                self.disk.truncate(descriptor, 0)
                self.disk.pwrite(descriptor, place.encode(), 0)
                self.disk.fsync(descriptor)
        except OSError as error:
            if isinstance(error, HeadraceError):
                raise
            raise SettingsError(f"the journal {self.root} cannot be opened ({error.strerror})", path=self.root) from error
        finally:
            self.disk.close(descriptor)

    def of_mount(self, mount: str) -> None:
        """Remember in words whose it is, for when that mount is gone. Raises `OSError`."""
        descriptor = self.disk.open(f"{self.root}/{MOUNT_FILE}", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            self.disk.pwrite(descriptor, mount.encode(), 0)
        finally:
            self.disk.close(descriptor)

    def sync(self) -> None:
        """Bring `backlog` up to what all processes have made durable. Raises `JournalFailed`."""
        durable = self._durable[0]
        if durable == self._read[0] << _OFFSET_BITS | self._read[1]:
            return
        try:
            self._take_in(durable >> _OFFSET_BITS, durable & (1 << _OFFSET_BITS) - 1)
        except OSError as error:
            raise JournalFailed(f"the journal {self.root} cannot be read ({error.strerror})", path=self.root) from error

    def append(self, records: Sequence[bytes]) -> list[tuple[int, int]]:
        """Write and fsync; where each record lies. Raises `JournalFailed`, after which none of them counts."""
        try:
            with self._locked():
                log, end = self._tail()
                if end and end + sum(map(len, records)) > self._log_bytes:
                    self.disk.fsync(self._logs.descriptor(log))
                    log, end = log + 1, 0
                    self._logs.create(log)
                places = self._write(log, end, records)
            self.disk.fsync(self._logs.descriptor(log))
        except OSError as error:
            raise JournalFailed(f"the journal {self.root} cannot be written ({error.strerror})", path=self.root) from error
        self._publish(log, places[-1][1] + len(records[-1]))
        return places

    def open_body(self, staged: Staged) -> tuple[int, int]:
        """A descriptor of its own on the body of a staged `Put`, and where in it the body begins.

        Raises `FileNotFoundError` when the write has reached the store meanwhile, and `OSError`.
        """
        entry = staged.entry
        if isinstance(entry, Put) and entry.body_file:
            return self.disk.open(self.bodies.path(entry.body_file), os.O_RDONLY), 0
        return self.disk.open(self._logs.path(staged.place[0]), os.O_RDONLY), staged.record.body_offset

    def needed_from(self) -> int:
        """The first log that is needed, now or for what may be appended."""
        oldest = self.backlog.oldest_log()
        return self._read[0] if oldest is None else min(oldest, self._read[0])

    def remove_before(self, log: int) -> None:
        """Remove the logs before `log`, which `needed_from` told. Raises `OSError`. For the one process that uploads."""
        with self._locked():
            for number in self._logs.numbers():
                if number < log:
                    self.disk.unlink(self._logs.path(number))

    def remove_strays(self, before_s: float) -> int:
        """`Bodies.remove_strays` of all but what is staged."""
        named = {staged.entry.body_file for staged in self.backlog.below("") if isinstance(staged.entry, Put)}
        return self.bodies.remove_strays(named, before_s)

    def close(self) -> None:
        """Nothing may be appended or read any more."""
        self._logs.close()
        descriptor, self._lock_fd = self._lock_fd, -1
        if descriptor >= 0:
            self.disk.close(descriptor)

    def _map(self, path: str) -> memoryview:
        descriptor = self.disk.open(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size < 8:
                os.posix_fallocate(descriptor, 0, 8)
            return memoryview(mmap.mmap(descriptor, 8)).cast("Q")
        finally:
            self.disk.close(descriptor)

    def _recover(self) -> None:
        """Take in every record that is whole; the tail that a crash tore off is cut, damage before it is told."""
        with self._locked():
            logs = self._logs.numbers()
            if not logs:
                self._logs.create(1)
                logs = [1]
            for log in logs:
                end = self._recover_log(log, is_last=log == logs[-1])
            self.disk.fsync(self._logs.descriptor(logs[-1]))
            self._read = (logs[-1], end)
            self._durable[0] = logs[-1] << _OFFSET_BITS | end

    def _recover_log(self, log: int, *, is_last: bool) -> int:
        size = self._logs.size(log)
        for found in scan(self._logs.reader(log), 0, size):
            if isinstance(found, Record):
                self.backlog.add(log, found)
                continue
            is_tail = is_last and found.end == size
            set_aside(self.disk, self.root, log, found, self._logs.descriptor(log))
            self.found.append(Found(log, found, is_tail))
            if is_tail:
                self.disk.truncate(self._logs.descriptor(log), found.offset)
                return found.offset
        return size

    def _take_in(self, log: int, end: int) -> None:
        at, offset = self._read
        while at < log:
            try:
                self._take_in_log(at, offset, self._logs.size(at))
            except FileNotFoundError:
                # It was removed since: all that was staged up to it had reached the store.
                at = min(self._logs.numbers(), default=log) - 1
                self.backlog.forget_before(at + 1)
            at, offset = at + 1, 0
        self._take_in_log(at, offset, end)
        self._read = (log, end)

    def _take_in_log(self, log: int, offset: int, end: int) -> None:
        read = self._logs.reader(log)
        while offset < end:
            record = decode(read, offset)
            if record is None:
                raise JournalFailed(f"{self._logs.path(log)} is damaged at byte {offset}: restart the node", path=self.root)
            self.backlog.add(log, record)
            offset = record.end

    def _tail(self) -> tuple[int, int]:
        """The log that grows, and where its last whole record ends; what a killed process left behind that is cut off."""
        log = self._logs.numbers()[-1]
        durable = self._durable[0]
        known = durable & (1 << _OFFSET_BITS) - 1 if durable >> _OFFSET_BITS == log else 0
        size = self._logs.size(log)
        end = known
        for found in scan(self._logs.reader(log), known, size):
            if isinstance(found, Damage):
                break
            end = found.end
        if end < size:
            self.disk.truncate(self._logs.descriptor(log), end)
        return log, end

    def _write(self, log: int, end: int, records: Sequence[bytes]) -> list[tuple[int, int]]:
        places = []
        data = memoryview(b"".join(records))
        done = 0
        try:
            while done < len(data):
                done += self.disk.pwrite(self._logs.descriptor(log), data[done:], end + done)
        except OSError:
            with contextlib.suppress(OSError):
                self.disk.truncate(self._logs.descriptor(log), end)
            raise
        for record in records:
            places.append((log, end))
            end += len(record)
        return places

    def _publish(self, log: int, end: int) -> None:
        # Another process may be further already: what it fsynced held these records, too.
        with self._locked():
            self._durable[0] = max(self._durable[0], log << _OFFSET_BITS | end)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Held for one append at most, never while a store is asked. Threads of one process share the file's lock.
        with self._appending:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
