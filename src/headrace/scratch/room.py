"""Room: how much of its bound a mount's scratch uses, counted by all processes of the node together."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from contextlib import suppress
from pathlib import Path

from headrace.model.errors import NoSpace
from headrace.model.reading import Buffer
from headrace.model.writing import Body
from headrace.stores.passing import PassingBody

OVERHEAD_BYTES = 4096
"""What each record counts, so that empty objects fill the room as well."""
COUNT_FILE = "used"
_COUNT = struct.Struct("<q")


class Room:
    """A count in a mapped file, changed under the file's lock. What a killed process took is given back by the next recount."""

    def __init__(self, path: str, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._fd, 0, _COUNT.size)
        self._map = mmap.mmap(self._fd, _COUNT.size)
        # Threads of one process share the file's lock.
        self._thread = threading.Lock()

    def used(self) -> int:
        """Bytes in use now; 0 when it was closed."""
        if self._map.closed:
            return 0
        used: int = _COUNT.unpack_from(self._map)[0]
        return max(0, used)

    def take(self, count: int, key: str) -> None:
        """Raises `NoSpace` where fewer than `count` bytes are free."""
        if count and not self._add(count, self.capacity_bytes):
            raise NoSpace(
                f"{key!r}: scratch has no room for it ({self.used()} of {self.capacity_bytes} bytes are used): remove objects "
                "from it, or raise [scratch] capacity",
                path=key,
            )

    def add(self, count: int) -> None:
        """Take or give back, whatever the bound."""
        self._add(count, None)

    def close(self) -> None:
        """No method may be called any more."""
        with self._thread:
            if not self._map.closed:
                self._map.close()
                os.close(self._fd)

    def _add(self, count: int, bound: int | None) -> bool:
        with self._thread:
            if self._map.closed:  # what is given back late, after a mount was taken away, the next recount finds
                return True
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                used: int = _COUNT.unpack_from(self._map)[0] + count
                if bound is not None and used > bound:
                    return False
                _COUNT.pack_into(self._map, 0, used)
                return True
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)


def used_of(folder: Path) -> int:
    """What the scratch in a folder was last counted to use, without opening it; 0 where there is none."""
    with suppress(OSError, struct.error):
        used: int = _COUNT.unpack_from((folder / COUNT_FILE).read_bytes())[0]
        return max(0, used)
    return 0


class ChargedBody(PassingBody):
    """A body whose bytes take room as they come. `give_back` when nothing came of it."""

    def __init__(self, inner: Body, room: Room, key: str) -> None:
        super().__init__(inner)
        self.rewindable = False
        self._room = room
        self._key = key
        self._taken = 0
        self._expected = inner.length or 0
        self._take(self._expected)

    async def pass_on(self, piece: Buffer) -> None:
        self._seen(memoryview(piece).nbytes)

    def give_back(self) -> None:
        self._room.add(-self._taken)
        self._taken = 0

    def _take(self, count: int) -> None:
        self._room.take(count, self._key)
        self._taken += count

    def _seen(self, count: int) -> None:
        # What was announced is taken in front, so that a body that cannot fit is refused before a byte of it.
        if self._expected:
            self._expected = max(0, self._expected - count)
        else:
            self._take(count)
