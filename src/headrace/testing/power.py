"""Power cuts: a disk that remembers in which order it was changed, and what can be left of it when the current fails.

What was not fsynced may be there, be lost, or be there in part, with zeros where bytes were to come. A name that was made or
removed is sure only once its directory was fsynced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from headrace.model.disk import SystemDisk


class Change(StrEnum):
    """What was done to a file or, for `FSYNC`, also to a directory."""

    CREATE = "create"
    WRITE = "write"
    TRUNCATE = "truncate"
    UNLINK = "unlink"
    FSYNC = "fsync"


class Step(msgspec.Struct, frozen=True):
    """One change. `offset` is the length for `TRUNCATE`."""

    change: Change
    path: str
    offset: int = 0
    data: bytes = b""


class Kept(StrEnum):
    """What the power cut leaves of what was not fsynced."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    TORN = "torn"
    """Everything but the second half of each file's last write, in whose place there are zeros."""


class RecordingDisk(SystemDisk):
    """The real disk, with every change below `root` remembered in `steps`, paths relative to it."""

    def __init__(self, root: str) -> None:
        self.steps: list[Step] = []
        self._root = root
        self._paths: dict[int, str] = {}

    def open(self, path: str, flags: int) -> int:
        is_new = bool(flags & os.O_CREAT) and not os.path.exists(path)  # noqa: PTH110 - a str path
        descriptor = super().open(path, flags)
        self._paths[descriptor] = self._name(path)
        if is_new:
            self._note(Change.CREATE, path)
        return descriptor

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        count = super().pwrite(fd, data, offset)
        self.steps.append(Step(Change.WRITE, self._paths[fd], offset, bytes(data[:count])))
        return count

    def truncate(self, fd: int, length: int) -> None:
        super().truncate(fd, length)
        self.steps.append(Step(Change.TRUNCATE, self._paths[fd], length))

    def fsync(self, fd: int) -> None:
        # The order is what counts: the device itself need not be waited for.
        self.steps.append(Step(Change.FSYNC, self._paths[fd]))

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._note(Change.UNLINK, path)

    def _note(self, change: Change, path: str) -> None:
        self.steps.append(Step(change, self._name(path)))

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self._root)


class _File:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = b""
        self.last: tuple[int, int] | None = None
        """Where the last write that was not fsynced lies."""
        self.named = True
        self.name_synced = False
        """Whether a power cut leaves the name, whatever was done to it since its directory was last fsynced."""


def after_power_cut(steps: Sequence[Step], target: Path, kept: Kept) -> None:
    """Make below `target` the files that a power cut after the last of `steps` leaves."""
    files: dict[str, _File] = {}
    for step in steps:
        _apply(files, step)
    for path, file in files.items():
        there = file.name_synced if kept is Kept.NOTHING else file.named
        if not there:
            continue
        data = bytearray(file.synced if kept is Kept.NOTHING else file.data)
        if kept is Kept.TORN and file.last is not None:
            start, end = file.last
            middle = (start + end) // 2
            data[middle:end] = bytes(max(0, min(end, len(data)) - middle))
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def _apply(files: dict[str, _File], step: Step) -> None:
    if step.change is Change.FSYNC and step.path not in files:
        for path, file in files.items():
            if os.path.dirname(path) == step.path.removeprefix("."):  # noqa: PTH120
                file.name_synced = file.named
        return
    file = files.setdefault(step.path, _File())
    match step.change:
        case Change.CREATE:
            file.named = True
        case Change.UNLINK:
            file.named = False
        case Change.FSYNC:
            file.synced, file.last = bytes(file.data), None
        case Change.TRUNCATE:
            del file.data[step.offset :]
            file.last = None
        case Change.WRITE:
            end = step.offset + len(step.data)
            file.data.extend(bytes(max(0, end - len(file.data))))
            file.data[step.offset : end] = step.data
            file.last = (step.offset, end)
