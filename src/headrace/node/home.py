"""The directory of all state: what lies where, and that only one node uses it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from headrace.model.errors import SettingsError

ADDRESSES_NAME = "node.json"


class Addresses(msgspec.Struct, frozen=True):
    """Where a running node answers."""

    data: str
    control: str
    pid: int


def read_addresses(home: Path) -> Addresses | None:
    """What the node that uses `home` wrote, or None where none did.

    A node that was killed leaves it behind: who needs an answer must ask there.
    """
    try:
        return msgspec.json.decode((home / "run" / ADDRESSES_NAME).read_bytes(), type=Addresses)
    except (OSError, msgspec.MsgspecError):
        return None


def reachable(listen: str) -> str:
    """The URL at which this machine reaches what listens at `host:port`, which may be every address."""
    host, _, port = listen.rpartition(":")
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - read, never bound
    return f"http://{everywhere.get(host, host)}:{port}"


class Home:
    """Paths below `$HEADRACE_HOME`, made on demand and readable by their owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.logs = path / "logs"
        self.handoff_socket = self.run / "handoff.sock"
        self._lock_fd = -1

    def prepare(self) -> None:
        """Make the directories. Raises `SettingsError` when that is not possible."""
        try:
            for directory in (self.path, self.run, self.logs):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"cannot make {error.filename}: {error.strerror}; set [server] home or $HEADRACE_HOME to one you may write"
            ) from error

    def lock(self) -> None:
        """Claim the directory until this process ends. Raises `SettingsError` when another node has it."""
        path = self.run / "node.lock"
        self._lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock_fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise SettingsError(
                f"another node (process {holder}) uses {self.path}: stop it, or give this one a home of its own",
                path=str(self.path),
            ) from error
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n".encode(), 0)

    def write_addresses(self, data_url: str, control_url: str) -> None:
        """Say where this node answers, for clients on this machine."""
        part = self.run / "node.json.part"
        part.write_bytes(msgspec.json.encode(Addresses(data_url, control_url, os.getpid())))
        part.replace(self.run / ADDRESSES_NAME)

    def unlock(self) -> None:
        if self._lock_fd >= 0:
            (self.run / ADDRESSES_NAME).unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = -1
