"""Marks: which keys this node has written itself, in memory that its processes share.

What was learnt of a key under one mark holds only as long as its slot still has that mark. So no process serves what another
has replaced, without a message between them: the mark is set before the write is acknowledged. Likewise everything that was
learnt of one place holds only as long as its era lasts.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from itertools import count
from pathlib import Path

import xxhash

from headrace.model.errors import SettingsError

SLOTS = 1 << 17
"""Keys share slots by their hash; a neighbour's write costs one more question to the store, nothing else."""
_ERAS = 1 << 10
_OWN = SLOTS
_BYTES = (SLOTS + _ERAS + _OWN) * 8


class Marks:
    """One 64-bit mark a slot. Never compared by size: a mark is set to a value that it never had before."""

    def __init__(self, memory: mmap.mmap | None = None) -> None:
        self._memory = memory if memory is not None else mmap.mmap(-1, _BYTES)
        self.table = memoryview(self._memory).cast("Q")
        """The marks and eras by slot, to be compared on the path of every read."""
        self._fresh = count(int.from_bytes(os.urandom(8), "little"))

    @classmethod
    def open(cls, path: Path) -> Marks:
        """The marks of a node, made when there are none. Raises `SettingsError`: without them, writes are not seen by all."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with contextlib.closing(os.fdopen(descriptor, "r+b", buffering=0)) as file:
                if os.fstat(file.fileno()).st_size < _BYTES:
                    # Allocated, not only sized: storing into a hole of a full disk would kill the process.
                    os.posix_fallocate(file.fileno(), 0, _BYTES)
                return cls(mmap.mmap(file.fileno(), _BYTES))
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}: the home directory must be writable", path=str(path)) from error

    @staticmethod
    def slot(place: str, key: str) -> int:
        """The slot of a key. `place` is the store's address up to where keys begin, so that two mounts of a store agree."""
        return xxhash.xxh3_64_intdigest((place + key).encode("utf-8", "surrogatepass")) % SLOTS

    @staticmethod
    def era(place: str) -> int:
        """The slot of a place's era. Places share them as keys share slots."""
        return SLOTS + xxhash.xxh3_64_intdigest(place.encode("utf-8", "surrogatepass")) % _ERAS

    def note_own(self, place: str, key: str, entity: str) -> None:
        """This node was the last to change the key: it has made an object with this entity tag, or (empty) removed one."""
        self.table[_own_slot(place, key)] = _hash_of(place, key, entity)

    def is_own(self, place: str, key: str, entity: str) -> bool:
        """Whether that was noted, as far as it is known: keys share these slots, too, and the last one has its own."""
        return self.table[_own_slot(place, key)] == _hash_of(place, key, entity)

    def disown(self, place: str, key: str) -> None:
        """Another was the last to change the key."""
        self.table[_own_slot(place, key)] = 0

    def set(self, slot: int) -> None:
        """From now on nothing holds that was learnt under the slot's earlier marks."""
        # Two processes may set one slot at once, and either value may stay: both are new to whoever read the slot before.
        self.table[slot] = next(self._fresh) & 0xFFFF_FFFF_FFFF_FFFF

    def set_all(self) -> None:
        """As `set`, for every slot, and `disown` for every key."""
        known = (SLOTS + _ERAS) * 8
        self._memory[:] = os.urandom(known) + bytes(_BYTES - known)


def _hash_of(place: str, key: str, entity: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{place}{key}\0{entity}".encode("utf-8", "surrogatepass"))


def _own_slot(place: str, key: str) -> int:
    return SLOTS + _ERAS + Marks.slot(place, key)
