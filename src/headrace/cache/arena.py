"""The memory tier: page slots and their index in one shared memory file, used by every process of the machine.

The index is open addressing with bounded probes: a page's key names a set of eight slots, and it lies in one of them or
nowhere. Readers take no lock: they copy a page and check the copy against its checksum, which is bound to the page's key, so
what a writer tore or a bit flip changed is a miss. Writers hold a byte-range lock on the set; it dies with its process, and
a slot is marked empty before its bytes change and filled after, so a kill at any instruction costs one page at most.

An eighth of the capacity is cut into slots of 4 KiB for small objects; all else takes a slot of a page, whatever its length.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable

import msgspec

from headrace.cache.layout import checksum
from headrace.cache.locking import lock_mapping
from headrace.model.errors import HeadraceError, SettingsError
from headrace.model.reading import Buffer

_HEADER = struct.Struct("<8sQQQQ")
_MAGIC = b"HRmem\0\0\1"
_HEADER_BYTES = 4096
_ENTRY = struct.Struct("<16sIIQBB6x")
"""Object id, page index, length, checksum, filled, reads."""
_ENTRY_BYTES = _ENTRY.size
_FILLED = 32
_READS = 33
_WAYS = 8
_SET_BYTES = _WAYS * _ENTRY_BYTES
_SMALL = 4096
_SMALL_PART = 8
_MAX_READS = 3
_INDEX = struct.Struct("<I")
_FLOCK = struct.Struct("hhqqi4x")
_MIX = 0x9E3779B97F4A7C15
_LOCK_TIMEOUT_S = 1.0


class MemoryStats(msgspec.Struct, frozen=True):
    """`filled` and `bytes_used` hold for all processes, the counters for this one since it attached."""

    capacity: int
    slots: int
    filled: int
    bytes_used: int
    """Slots' bytes, what short pages waste included."""
    hits: int
    misses: int
    damaged: int
    """Copies that did not match their checksum: overwritten while copied, or flipped."""
    evicted: int
    skipped: int
    """Puts given up because another writer held the set."""


class _Class:
    """Slots of one length: where their entries, their data and their sets' hands lie."""

    __slots__ = ("data", "entries", "entries_end", "hands", "locks", "sets", "slot_bytes")

    def __init__(self, start: int, room: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self.sets = max(0, room - mmap.PAGESIZE) // (_SET_BYTES + 1 + _WAYS * slot_bytes)
        self.entries = start
        self.entries_end = start + self.sets * _SET_BYTES
        self.hands = self.entries_end
        self.locks = self.entries
        self.data = -(-(self.hands + self.sets) // mmap.PAGESIZE) * mmap.PAGESIZE


class MemoryTier:
    """Pages in shared memory. Made once by `create`; other processes `attach` its inherited `fd`.

    Threads of one process may share one object. Nothing blocks but `drop`, and that for a bounded time.
    """

    def __init__(self, fd: int, capacity: int, page: int) -> None:
        self.fd = fd
        self.capacity = capacity
        self.page = page
        self.on_evicted: Callable[[bytes, int, bytes], None] | None = None
        """Called with object id, page index and bytes of each page that makes room for another."""
        # Its own open file: locks taken through an inherited descriptor would be shared with the parent.
        self._lock_fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(fd, capacity)
        self._map.madvise(mmap.MADV_DONTDUMP)
        self._classes = _classes(capacity, page)
        self._thread = threading.Lock()
        self._hits = self._misses = self._damaged = self._evicted = self._skipped = 0

    @classmethod
    def create(cls, capacity: int, page: int, *, locked: bool = False) -> MemoryTier:
        """A new, empty tier of `capacity` bytes in all, for pages of at most `page` bytes. `locked`: kept out of swap.

        Raises `SettingsError` when not even one set of pages fits, `ResidencyRefused` when it cannot be locked.
        """
        capacity -= capacity % mmap.PAGESIZE
        if not _classes(capacity, page)[-1].sets:
            least = 2 * _WAYS * page
            raise SettingsError(f"[cache] memory: {capacity} bytes cannot hold pages of {page}: give at least {least}, or 0")
        fd = os.memfd_create("headrace-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, capacity)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            os.pwrite(fd, _HEADER.pack(_MAGIC, capacity, page, _ENTRY_BYTES, _WAYS), 0)
            tier = cls(fd, capacity, page)
        except BaseException:  # whatever it is: tidied up here, raised on
            os.close(fd)
            raise
        return tier._locked() if locked else tier

    @classmethod
    def attach(cls, fd: int, *, locked: bool = False) -> MemoryTier:
        """The tier behind an inherited descriptor, which it owns from now on. Raises `HeadraceError` for anything else."""
        head = os.pread(fd, _HEADER.size, 0)
        if len(head) < _HEADER.size:
            raise HeadraceError(f"descriptor {fd} is not a memory tier")
        magic, capacity, page, entry_bytes, ways = _HEADER.unpack(head)
        if (magic, entry_bytes, ways) != (_MAGIC, _ENTRY_BYTES, _WAYS) or os.fstat(fd).st_size != capacity:
            raise HeadraceError(f"descriptor {fd} is not a memory tier of this release: restart all processes together")
        tier = cls(fd, capacity, page)
        return tier._locked() if locked else tier

    def get(self, object_id: bytes, page: int) -> bytes | None:
        """The page's verified bytes, or None."""
        key = object_id + _INDEX.pack(page)
        mixed = int.from_bytes(object_id[:8], "little") + page * _MIX
        mapping = self._map
        for size_class in self._classes:
            if not size_class.sets:
                continue
            which = mixed % size_class.sets
            offset = size_class.entries + which * _SET_BYTES
            entries = mapping[offset : offset + _SET_BYTES]
            at = entries.find(key)
            if at < 0 or at % _ENTRY_BYTES or not entries[at + _FILLED]:
                continue
            _, _, length, wanted, _, reads = _ENTRY.unpack_from(entries, at)
            start = size_class.data + (which * _WAYS + at // _ENTRY_BYTES) * size_class.slot_bytes
            data = mapping[start : start + length]
            if length <= size_class.slot_bytes and checksum(data, object_id, page) == wanted:
                if reads < _MAX_READS:
                    mapping[offset + at + _READS] = reads + 1
                self._hits += 1
                return data
            self._damaged += 1
            self._clear_if_same(size_class, which, at, entries[at : at + _FILLED])
        self._misses += 1
        return None

    def put(self, object_id: bytes, page: int, data: Buffer) -> bool:
        """Keep a page, letting a colder one of its set go. False when it is too long or another writer is at its set."""
        length = len(data)
        size_class = self._classes[0] if length <= self._classes[0].slot_bytes and self._classes[0].sets else self._classes[-1]
        if length > size_class.slot_bytes or len(object_id) != 16:
            return False
        which = (int.from_bytes(object_id[:8], "little") + page * _MIX) % size_class.sets
        wanted = checksum(data, object_id, page)
        with self._thread:
            if not self._lock(size_class, which):
                self._skipped += 1
                return False
            try:
                victim = self._place(size_class, which, _ENTRY.pack(object_id, page, length, wanted, 1, 0), data)
            finally:
                self._unlock(size_class, which)
        if victim is not None and self.on_evicted is not None:
            self.on_evicted(*victim)
        return True

    def drop(self, object_id: bytes) -> int:
        """Let every page of an object go, and overwrite its bytes. Answers how many there were."""
        return self._drop_matching(object_id, 0)

    def drop_mount(self, tag: bytes) -> int:
        """As `drop`, for every object whose id ends with a mount's tag."""
        return self._drop_matching(tag, 16 - len(tag))

    def stats(self) -> MemoryStats:
        """Counts; walks the index once."""
        filled = used = slots = 0
        for size_class in self._classes:
            here = self._map[size_class.entries + _FILLED : size_class.entries_end : _ENTRY_BYTES].count(1)
            filled += here
            used += here * size_class.slot_bytes
            slots += size_class.sets * _WAYS
        return MemoryStats(
            self.capacity, slots, filled, used, self._hits, self._misses, self._damaged, self._evicted, self._skipped
        )

    def close(self) -> None:
        """Unmap; the pages live on while any process has the tier."""
        self._map.close()
        os.close(self._lock_fd)
        os.close(self.fd)

    def _locked(self) -> MemoryTier:
        try:
            lock_mapping(self._map)
        except BaseException:  # whatever it is: tidied up here, raised on
            self.close()
            raise
        return self

    def _place(self, size_class: _Class, which: int, entry: bytes, data: Buffer) -> tuple[bytes, int, bytes] | None:
        mapping = self._map
        offset = size_class.entries + which * _SET_BYTES
        entries = mapping[offset : offset + _SET_BYTES]
        at = entries.find(entry[:20])
        if at >= 0 and not at % _ENTRY_BYTES:
            if entries[at : at + _READS] == entry[:_READS]:
                return None
            way = at // _ENTRY_BYTES
        else:
            way = self._choose(size_class, which, entries)
        at = way * _ENTRY_BYTES
        start = size_class.data + (which * _WAYS + way) * size_class.slot_bytes
        victim = None
        if entries[at + _FILLED]:
            self._evicted += 1
            if self.on_evicted is not None:
                gone_id, gone_page, gone_length, gone_sum, _, _ = _ENTRY.unpack_from(entries, at)
                gone = mapping[start : start + min(gone_length, size_class.slot_bytes)]
                if checksum(gone, gone_id, gone_page) == gone_sum:
                    victim = (gone_id, gone_page, gone)
        mapping[offset + at + _FILLED] = 0
        mapping[start : start + len(data)] = data
        mapping[offset + at : offset + at + _FILLED] = entry[:_FILLED]
        mapping[offset + at + _READS] = 0
        mapping[offset + at + _FILLED] = 1
        return victim

    def _choose(self, size_class: _Class, which: int, entries: bytes) -> int:
        """An empty way, else the least read one behind the hand; the others lose as many reads as it had."""
        empty = entries[_FILLED::_ENTRY_BYTES].find(0)
        if empty >= 0:
            return empty
        reads = entries[_READS::_ENTRY_BYTES]
        hand = self._map[size_class.hands + which] % _WAYS
        way = min(range(_WAYS), key=lambda candidate: (reads[candidate], (candidate - hand) % _WAYS))
        least = reads[way]
        if least:
            base = size_class.entries + which * _SET_BYTES + _READS
            for other in range(_WAYS):
                self._map[base + other * _ENTRY_BYTES] = reads[other] - least
        self._map[size_class.hands + which] = (way + 1) % _WAYS
        return way

    def _drop_matching(self, part: bytes, offset: int) -> int:
        dropped = 0
        for size_class in self._classes:
            at = self._map.find(part, size_class.entries, size_class.entries_end)
            while at >= 0:
                relative = at - size_class.entries
                if relative % _ENTRY_BYTES == offset:
                    which, within = divmod(relative - offset, _SET_BYTES)
                    head = self._map[at - offset : at - offset + _FILLED]
                    dropped += self._clear_if_same(size_class, which, within, head, wait_s=_LOCK_TIMEOUT_S)
                at = self._map.find(part, at + 1, size_class.entries_end)
        return dropped

    def _clear_if_same(self, size_class: _Class, which: int, at: int, head: bytes, *, wait_s: float = 0.0) -> bool:
        """Empty a slot unless a writer changed it meanwhile. Answers whether it held a page."""
        offset = size_class.entries + which * _SET_BYTES + at
        with self._thread:
            until = time.monotonic() + wait_s
            while not self._lock(size_class, which):
                if time.monotonic() >= until:
                    return False
                time.sleep(0.001)
            try:
                if self._map[offset : offset + _FILLED] != head:
                    return False
                filled = bool(self._map[offset + _FILLED])
                start = size_class.data + (which * _WAYS + at // _ENTRY_BYTES) * size_class.slot_bytes
                self._map[offset + _FILLED] = 0
                self._map[offset : offset + _FILLED] = bytes(_FILLED)
                self._map[start : start + size_class.slot_bytes] = bytes(size_class.slot_bytes)
                return filled
            finally:
                self._unlock(size_class, which)

    def _lock(self, size_class: _Class, which: int) -> bool:
        try:
            self._fcntl(fcntl.F_WRLCK, size_class.locks + which)
        except OSError:
            return False  # held by another process, or no lock to be had: a cache skips the page
        return True

    def _unlock(self, size_class: _Class, which: int) -> None:
        self._fcntl(fcntl.F_UNLCK, size_class.locks + which)

    def _fcntl(self, kind: int, at: int) -> None:
        fcntl.fcntl(self._lock_fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0))


def _classes(capacity: int, page: int) -> tuple[_Class, ...]:
    """How a capacity is cut: a function of the two numbers alone, so that every process cuts alike."""
    room = capacity - _HEADER_BYTES
    if page <= _SMALL:
        return (_Class(_HEADER_BYTES, room, page),)
    part = room // _SMALL_PART // mmap.PAGESIZE * mmap.PAGESIZE
    return (_Class(_HEADER_BYTES, part, _SMALL), _Class(_HEADER_BYTES + part, room - part, page))
