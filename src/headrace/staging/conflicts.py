"""Conflicts: writes that were acknowledged here while another changed the object at its store."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import msgspec

from headrace.staging.journal import Journal
from headrace.staging.records import Put

_FILE = "conflicts"
_MAX_BYTES = 16 << 20


class Conflict(msgspec.Struct, frozen=True):
    """Ours is kept under `kept_as` (empty: ours was a removal); the store has what is named by `theirs`, its entity tag."""

    key: str
    kept_as: str
    noticed_s: float
    theirs: str
    settled: bool = False


def conflict_key(entry: Put) -> str:
    """The name beside the object under which a write is kept: the same however often it is tried."""
    stamp = datetime.fromtimestamp(entry.staged_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{entry.key}.conflict-{stamp}-{entry.etag[:8]}"


class Conflicts:
    """The conflicts of one mount: lines of a file beside the journal, the last about a name holds."""

    def __init__(self, journal: Journal) -> None:
        self._disk = journal.disk
        self._path = f"{journal.root}/{_FILE}"

    def add(self, conflict: Conflict) -> None:
        """Write a line and return once it is on the disk. Raises `OSError`."""
        descriptor = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
        try:
            line = msgspec.json.encode(conflict) + b"\n"
            self._disk.pwrite(descriptor, line, self._disk.fstat(descriptor).st_size)
            self._disk.fsync(descriptor)
        finally:
            self._disk.close(descriptor)

    def open(self) -> list[Conflict]:
        """Those not settled, oldest first."""
        try:
            descriptor = self._disk.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return []
        try:
            data = self._disk.pread(descriptor, _MAX_BYTES, 0)
        finally:
            self._disk.close(descriptor)
        found: dict[tuple[str, str], Conflict] = {}
        for line in data.split(b"\n"):
            try:
                conflict = msgspec.json.decode(line, type=Conflict)
            except msgspec.MsgspecError:
                continue  # a line that a crash cut
            found[conflict.key, conflict.kept_as] = conflict
        return [conflict for conflict in found.values() if not conflict.settled]
