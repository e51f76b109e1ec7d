"""The directory that a mount's scratch stands on: a directory store's, with a record beside every object.

A change takes effect with its record: a new object's is written behind the rename, one that takes another's place has both in
its record before it, and a removal drops the record first. So a kill at any instruction leaves the old object, the new one, or
none; a file without a record is nobody's, and is swept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec
import xxhash

from headrace.model.errors import Lost, NotFound, Unavailable
from headrace.model.objects import SCRATCH, ByteRange, ObjectInfo
from headrace.model.writing import Condition
from headrace.scratch.records import (
    BLOCK_BYTES,
    UNREADABLE,
    Record,
    Touch,
    Written,
    drop_record,
    hide,
    is_hidden,
    is_written,
    put_record,
    read_record,
    show,
    sums_of,
    touch_of,
    written_as,
)
from headrace.scratch.room import OVERHEAD_BYTES, Room
from headrace.stores.file import OpenFile
from headrace.stores.file_keys import FoundFile, find_file
from headrace.stores.file_own import key_lock
from headrace.stores.file_root import FileRoot, opened_root
from headrace.stores.file_types import content_type_of
from headrace.stores.file_write import remove_found
from headrace.stores.writes import check_condition

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_TRIES = 64


class Held(msgspec.Struct, frozen=True):
    """An object that is here, and what was acknowledged of it."""

    info: ObjectInfo
    written: Written


class Opened(msgspec.Struct, frozen=True):
    """An object that is here, open for reading."""

    held: Held
    file: OpenFile


class ScratchRoot(FileRoot):
    """`room` is what all of it may take."""

    def __init__(self, path: str, room: Room) -> None:
        super().__init__(path)
        self.room = room
        self.on_lost: Callable[[str], object] = _nobody
        """Told the key of each object whose bytes are let go, in whichever thread."""

    def seal(self, fd: int, size: int) -> bytes:
        return sums_of(fd, size)

    def replacing(self, root_fd: int, info: ObjectInfo, seal: bytes) -> AbstractContextManager[None]:
        return self._replacing(root_fd, info.key, written_as(info, seal))

    @contextmanager
    def _replacing(self, root_fd: int, key: str, now: Written) -> Iterator[None]:
        before = read_record(root_fd, key)
        if before is not None:
            put_record(root_fd, key, Record(now, before.now))
            yield
            self.room.add(-before.now.size)
            return
        yield
        put_record(root_fd, key, Record(now))
        self.room.add(OVERHEAD_BYTES)
        if show(root_fd, key):
            self.room.add(-OVERHEAD_BYTES)

    def look(self, key: str) -> Held | None:
        """The object that is here; None when the store beneath is to be asked. Raises `NotFound` for what was removed, `Lost`."""
        held = self._find(key, os.O_PATH)
        return None if held is None else held[0]

    def open_object(self, key: str) -> Opened | None:
        """`look`, with the file open."""
        found = self._find(key, _READ)
        return None if found is None else Opened(found[0], OpenFile(found[1].fd, found[1].stat, key))

    def has_record(self, key: str) -> bool:
        """Whether anything was written under the key, lost or not."""
        with opened_root(self) as root_fd:
            return is_written(root_fd, key)

    def is_removed(self, key: str) -> bool:
        """Whether the key was removed here, and not written since."""
        with opened_root(self) as root_fd:
            return is_hidden(root_fd, key) and not is_written(root_fd, key)

    def described(self, root_fd: int, key: str) -> ObjectInfo | None:
        """What a listing says of a record's key: the object, or what was lost. None when it was removed meanwhile."""
        before: Record | None = None
        for _ in range(_TRIES):
            record = read_record(root_fd, key)
            if record is None:
                return None
            found = self._matching(root_fd, key, record, os.O_PATH)
            if found is not None:
                return found[0].info
            if record == before:
                return record.now.lost(key)
            before = record
        raise Unavailable(f"{key!r} is being written all the time: try again", path=key)

    def _find(self, key: str, flags: int) -> tuple[Held, FoundFile] | None:
        with opened_root(self) as root_fd:
            before: Record | None = None
            for _ in range(_TRIES):
                record = read_record(root_fd, key)
                if record is None:
                    touched = touch_of(root_fd, key)
                    if touched is Touch.REMOVED:
                        raise NotFound(f"{key!r} was removed", path=key)
                    if touched is None:
                        return None
                    continue
                found = self._matching(root_fd, key, record, flags)
                if found is not None:
                    return found
                if record == before:  # nobody is just changing it
                    raise lost(key, record.now)
                before = record
        raise Unavailable(f"{key!r} is being written all the time: try again", path=key)

    def _matching(self, root_fd: int, key: str, record: Record, flags: int) -> tuple[Held, FoundFile] | None:
        try:
            found = find_file(root_fd, key, flags)
        except FileNotFoundError:
            return None
        info = found.info(key, content_type_of(key))
        written = record.of(info.version.token)
        if written is None or flags & os.O_PATH:
            os.close(found.fd)
        if written is None:
            return None
        return Held(msgspec.structs.replace(info, storage_class=SCRATCH), written), found

    def remove(self, key: str, condition: Condition, *, hides: bool) -> None:
        """Take the object away, lost or not. With `hides`, the store's of that name is not shown from then on."""
        with opened_root(self) as root_fd, key_lock(root_fd, key):
            self.check_still(root_fd)
            record = read_record(root_fd, key)
            found = _found(root_fd, key)
            check_condition(condition, None if record is None or found is None else found.info(key), key)
            if hides and hide(root_fd, key):
                self.room.add(OVERHEAD_BYTES)
            if record is not None:
                drop_record(root_fd, key)
                self.room.add(-OVERHEAD_BYTES)
            if found is not None:
                remove_found(root_fd, key, found)
                self.room.add(-found.stat.st_size)

    def clear(self, key: str) -> None:
        """Remove a file that no record speaks of: of a write or a removal that was cut off."""
        with opened_root(self) as root_fd, key_lock(root_fd, key):
            self.check_still(root_fd)
            if read_record(root_fd, key) is None:
                self._drop_file(root_fd, key)

    def lose(self, key: str, version: str) -> bool:
        """Let an object's bytes go; that it was there stays known. False when it is another version by now."""
        with opened_root(self) as root_fd, key_lock(root_fd, key):
            self.check_still(root_fd)
            found = _found(root_fd, key)
            if found is None or found.info(key).version.token != version:
                return False
            self._drop_file(root_fd, key)
        self.on_lost(key)
        return True

    def _drop_file(self, root_fd: int, key: str) -> None:
        found = _found(root_fd, key)
        if found is not None:
            remove_found(root_fd, key, found)
            self.room.add(-found.stat.st_size)


class Blocks:
    """The blocks of one open object, each proved by its checksum before a byte of it is handed out."""

    def __init__(self, root: ScratchRoot, opened: Opened) -> None:
        self._root = root
        self._file = opened.file
        self._key = opened.held.info.key
        self._written = opened.held.written

    def read(self, wanted: ByteRange) -> bytes:
        """In a thread. Raises `Lost` for damage, after which the object's bytes are let go, and as `OpenFile.piece`."""
        first, last = wanted.start // BLOCK_BYTES, -(-wanted.end // BLOCK_BYTES)
        start, end = first * BLOCK_BYTES, min(last * BLOCK_BYTES, self._written.size)
        data = self._file.piece(start, end - start)
        for block in range(first, last):
            at = (block - first) * BLOCK_BYTES
            if xxhash.xxh3_64_intdigest(data[at : at + BLOCK_BYTES]) != self._written.sum_of(block):
                self._root.lose(self._key, self._written.version)
                raise lost(self._key, self._written)
        return data[wanted.start - start : wanted.end - start]


def lost(key: str, written: Written) -> Lost:
    """What a reader of an object is told whose bytes are gone."""
    size = "" if written is UNREADABLE.now else f" ({written.size} bytes, ETag {written.etag})"
    return Lost(f"{key!r}{size} was scratch and is lost: make it again, or remove it", path=key)


def _nobody(_key: str) -> None:
    """Until somebody wants to know."""


def _found(root_fd: int, key: str) -> FoundFile | None:
    """The file under a key, closed again."""
    try:
        found = find_file(root_fd, key, os.O_PATH)
    except FileNotFoundError:
        return None
    os.close(found.fd)
    return found
