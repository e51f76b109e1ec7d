"""The lossy channel from the processes that read pages to the one that keeps them (`keeper.py`).

Datagrams on a Unix socket in the page directory. Sending never blocks and may be lost: the keeper's rescans
find what it was not told, so nothing but the quality of eviction rests on it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from time import monotonic
from typing import Annotated

import msgspec

SOCKET_NAME = "keeper.sock"
_BATCH = 64
_INTERVAL_S = 0.1
_RECEIVE_BYTES = 1 << 16
# Bounds that hold for what is received: the keeper's sums must not meet infinity or a negative size.
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Group(msgspec.Struct, frozen=True, array_like=True):
    """The segments of one mount, and its bounds; the last bounds heard count."""

    tag: bytes
    """`layout.mount_tag`, which is in the names of the mount's segments too."""
    quota_bytes: _Bytes = 0
    """0: no bound of its own."""
    ttl_s: _Seconds = 0.0
    """0: only capacity decides."""


class Created(msgspec.Struct, frozen=True, array_like=True):
    """A segment that was renamed into place; `size` is its file's length in bytes."""

    name: str
    size: _Bytes


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What one process saw of one group: file names without their directory."""

    group: Group
    touched: tuple[str, ...] = ()
    created: tuple[Created, ...] = ()
    removed: tuple[str, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)


class Touches:
    """The sending end; one per process and page directory. Safe to call from several threads."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._address = _address(self._directory)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._touched: dict[str, Group] = {}
        self._created: list[tuple[Created, Group]] = []
        self._removed: list[tuple[str, Group]] = []
        self._flush_at = 0.0
        self.sent = 0
        self.lost = 0

    def touched(self, name: str, group: Group) -> None:
        """A segment was read; `name` is its file name. Repeats within a batch count once."""
        touched = self._touched
        if name in touched:
            return
        touched[name] = group
        if len(touched) >= _BATCH or monotonic() >= self._flush_at:
            self.flush()

    def created(self, name: str, size: int, group: Group) -> None:
        """A segment of `size` bytes was renamed into place."""
        self._created.append((Created(name, size), group))
        if len(self._created) >= _BATCH or monotonic() >= self._flush_at:
            self.flush()

    def removed(self, name: str, group: Group) -> None:
        """A segment was unlinked by this process (freed, or found bad)."""
        self._removed.append((name, group))
        if len(self._removed) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered. Call it some ten times a second, so that the last touches before a pause arrive."""
        self._flush_at = monotonic() + _INTERVAL_S
        touched, self._touched = self._touched, {}
        created, self._created = self._created, []
        removed, self._removed = self._removed, []
        gathered: dict[Group, tuple[list[str], list[Created], list[str]]] = {}
        for name, group in touched.items():
            gathered.setdefault(group, ([], [], []))[0].append(name)
        for segment, group in created:
            gathered.setdefault(group, ([], [], []))[1].append(segment)
        for name, group in removed:
            gathered.setdefault(group, ([], [], []))[2].append(name)
        for group, (names, segments, gone) in gathered.items():
            self._send(Batch(group, tuple(names), tuple(segments), tuple(gone)))

    def close(self) -> None:
        """Send the rest and let the socket go. May be called more than once."""
        if self._directory < 0:
            return
        self.flush()
        self._socket.close()
        os.close(self._directory)
        self._directory = -1

    def _send(self, batch: Batch) -> None:
        try:
            self._socket.sendto(_encoder.encode(batch), self._address)
            self.sent += 1
        except OSError:
            self.lost += 1


class TouchesListener:
    """The receiving end; only the elected keeper may open it, for it takes the socket's name over."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.malformed = 0
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=self._directory)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(_address(self._directory))
        os.chmod(SOCKET_NAME, 0o600, dir_fd=self._directory)

    def fileno(self) -> int:
        """For `select`: readable when a batch waits."""
        return self._socket.fileno()

    def receive(self) -> Batch | None:
        """The next batch, or None when none waits. What is not a batch is counted and passed over."""
        while True:
            try:
                datagram = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return None
            try:
                return _decoder.decode(datagram)
            except msgspec.DecodeError:
                self.malformed += 1

    def close(self) -> None:
        """Take the socket's name away, so that senders see at once that nobody listens."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=self._directory)
        self._socket.close()
        os.close(self._directory)


def _address(directory_fd: int) -> str:
    # A socket's address holds 108 bytes; a page directory's path may be longer.
    return f"/proc/self/fd/{directory_fd}/{SOCKET_NAME}"
