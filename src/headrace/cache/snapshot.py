"""Names and versions of a store as it was last listed: one file in the order of keys, checksummed, replaced as a whole.

It is there to tell what changed since. Without it, or with one that cannot be trusted, nothing is wrong: less is told.
Layout: a magic, then frames of (length of the last key, records, length of the body, last key, body). The first frame's body is
a `Head`, the others' are records in MessagePack, and an empty frame ends them. XXH3-64 of all that is the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import xxhash

from headrace.model.errors import Unavailable

_MAGIC = b"HRLIST02"
_FRAME = struct.Struct("<III")
_SUM = struct.Struct("<Q")
_BUFFER_BYTES = 1 << 20
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW

Record = tuple[str, str, float]
"""A key, its version's token, and when it was changed."""


class Span(msgspec.Struct, frozen=True, order=True):
    """Keys from `low` up to but not including `high`; an empty `high` is behind all."""

    low: str
    high: str = ""

    def holds(self, key: str) -> bool:
        return self.low <= key and (not self.high or key < self.high)

    def covers(self, other: Span) -> bool:
        return self.low <= other.low and (not self.high or (bool(other.high) and other.high <= self.high))


class Head(msgspec.Struct, frozen=True):
    """What a snapshot tells of: every key of `covered`, but those that begin with one of `hidden`."""

    covered: tuple[Span, ...] = ()
    hidden: tuple[str, ...] = ()


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same keys in sorted spans that neither overlap nor touch."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and (not found[-1].high or span.low <= found[-1].high):
            last = found[-1]
            high = "" if not last.high or not span.high else max(last.high, span.high)
            found[-1] = Span(last.low, high)
        else:
            found.append(span)
    return tuple(found)


class Damaged(Exception):
    """The file is not a whole snapshot."""


class _Frame(NamedTuple):
    last: str
    records: int
    body: bytes


class SnapshotReader:
    """The records of a file in their order, some at a time. Raises `Damaged` for what is not whole, and `OSError`."""

    def __init__(self, path: Path) -> None:
        self._decoder = msgspec.msgpack.Decoder(list[Record])
        self._cut: list[Record] = []
        self._file = os.fdopen(os.open(path, os.O_RDONLY | _FLAGS), "rb", buffering=_BUFFER_BYTES)
        try:
            _verify(self._file)
            self._file.seek(len(_MAGIC))
            head = self._next()
            if head is None:
                raise Damaged("no head")
            self.head = msgspec.msgpack.decode(head.body, type=Head)
            self._frame_at = self._file.tell()
            self._frame = self._next()
        except (msgspec.MsgspecError, struct.error, UnicodeDecodeError) as error:
            self.close()
            raise Damaged(str(error)) from error
        except BaseException:  # whatever it is: tidied up here, raised on
            self.close()
            raise

    def passes_same(self, body: bytes) -> bool:
        """Whether the next records are exactly those of `body`; if so, they are passed."""
        if self._cut or self._frame is None or self._frame.body != body:
            return False
        self._pass()
        return True

    def ends(self, span: Span, about: int) -> Iterator[str]:
        """Last keys of frames of the next records, in order and about so many records apart, as far as they lie in `span`."""
        at, count = self._frame_at, 0
        last = ""
        while True:
            last_bytes, records, body_bytes = _FRAME.unpack(os.pread(self._file.fileno(), _FRAME.size, at))
            name = os.pread(self._file.fileno(), last_bytes, at + _FRAME.size).decode()
            if not body_bytes or not span.holds(name):
                return
            if count and count + records > about:
                yield last
                count = 0
            count, last = count + records, name
            at += _FRAME.size + last_bytes + body_bytes

    def take(self, below: str) -> Iterator[list[Record]]:
        """The next records with keys below a text (empty: all), a frame at most at a time."""
        while True:
            if not self._cut:
                if self._frame is None:
                    return
                self._cut = self._decoder.decode(self._frame.body)
                self._pass()
            count = bisect_left(self._cut, (below,)) if below else len(self._cut)
            taken, self._cut = self._cut[:count], self._cut[count:]
            if taken:
                yield taken
            if self._cut:
                return

    def hand_on(self, below: str, writer: SnapshotWriter) -> None:
        """Write the next records with keys below a text (empty: all) to another file."""
        while not self._cut and self._frame is not None and (not below or self._frame.last < below):
            writer.add(*self._frame)
            self._pass()
        for records in self.take(below):
            writer.add(records[-1][0], len(records), encode(records))

    def close(self) -> None:
        self._file.close()

    def _pass(self) -> None:
        self._frame_at = self._file.tell()
        self._frame = self._next()

    def _next(self) -> _Frame | None:
        last_bytes, count, body_bytes = _FRAME.unpack(self._read(_FRAME.size))
        return _Frame(self._read(last_bytes).decode(), count, self._read(body_bytes)) if body_bytes else None

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise Damaged("it became shorter")
        return data


def _verify(file: BinaryIO) -> None:
    """Nothing of a file is used before all of it proved whole."""
    rest = os.fstat(file.fileno()).st_size - _SUM.size
    if rest < len(_MAGIC) or file.read(len(_MAGIC)) != _MAGIC:
        raise Damaged("another format")
    seen = xxhash.xxh3_64(_MAGIC)
    rest -= len(_MAGIC)
    while rest > 0:
        piece = file.read(min(rest, _BUFFER_BYTES))
        if not piece:
            raise Damaged("too short")
        seen.update(piece)
        rest -= len(piece)
    if file.read() != _SUM.pack(seen.intdigest()):
        raise Damaged("wrong checksum")


_encode = msgspec.msgpack.Encoder().encode


def encode(records: list[Record]) -> bytes:
    """The body of a frame."""
    return _encode(records)


class SnapshotWriter:
    """Makes a file that takes the place of `path` when it is whole; one at a time.

    A disk that fails ends the writing and is told by `failure`.
    """

    def __init__(self, path: Path) -> None:
        self.failure = ""
        self._path = path
        self._aside = path.with_name(path.name + ".new")
        self._sum = xxhash.xxh3_64()
        self._file: BinaryIO | None = None

    def claim(self, what: str) -> None:
        """First of all. Raises `Unavailable` while another one writes."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _claim(self._aside)
        except (BlockingIOError, FileNotFoundError) as error:
            raise Unavailable(f"another `headrace sync` looks through {what}: try again when it is done", path=what) from error
        except OSError as error:
            self._fail(error)

    def begin(self, head: Head) -> None:
        """Before any records."""
        self._put(_MAGIC)
        self.add("", 0, msgspec.msgpack.encode(head))

    def add(self, last: str, count: int, body: bytes) -> None:
        """The next records, so many, of which `last` is the last key."""
        name = last.encode()
        self._put(_FRAME.pack(len(name), count, len(body)) + name)
        self._put(body)

    def finish(self) -> None:
        """Put it in its place. Not synced: after a power cut the checksum tells whether it is whole."""
        self._put(_FRAME.pack(0, 0, 0))
        self._put(_SUM.pack(self._sum.intdigest()))
        if self._file is not None and not self.failure:
            try:
                self._file.flush()
                # Removed by a change of mounts: then it must not come back.
                if _is_at(self._file.fileno(), self._aside):
                    self._aside.replace(self._path)
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Let go of what is not finished. May be called again."""
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):
            if _is_at(file.fileno(), self._aside):
                self._aside.unlink()
        with contextlib.suppress(OSError):
            file.close()

    def _put(self, data: bytes) -> None:
        if self._file is None or self.failure:
            return
        self._sum.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = f"{self._path}: {error.strerror or error}"


def _claim(path: Path) -> BinaryIO:
    """An empty file that this process alone writes. Raises `BlockingIOError` while another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # What another has finished meanwhile bears the other name now, and is not to be touched.
        if not _is_at(descriptor, path):
            raise BlockingIOError
        os.ftruncate(descriptor, 0)
    except BaseException:  # whatever it is: tidied up here, raised on
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES)


def _is_at(descriptor: int, path: Path) -> bool:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116


def file_of(folder: Path, identity: str) -> Path:
    """Where the snapshot lies of what a mount with this identity reads."""
    return folder / hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()


def sweep(folder: Path, identities: Iterable[str]) -> None:
    """Remove the snapshots of all but these. Raises `OSError`."""
    kept = {file_of(folder, identity).name for identity in identities}
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except FileNotFoundError:
        return
    for name in names:
        if name.partition(".")[0] not in kept:
            (folder / name).unlink(missing_ok=True)
