"""Bytes of a log that are no record: copied aside for whoever wants to look, the oldest copies let go beyond a bound."""

from __future__ import annotations

import os
import re

from headrace.model.disk import Disk
from headrace.staging.records import Damage

MAX_FILES = 64
MAX_BYTES = 128 << 20
_COPY_BYTES = 1 << 20
_NAME = re.compile(r"damaged-(\d+)-(\d+)")


def set_aside(disk: Disk, root: str, log: int, damage: Damage, descriptor: int) -> None:
    """Copy what the open log `descriptor` holds there to `<root>/damaged-<log>-<offset>`. Raises `OSError`."""
    copy = disk.open(f"{root}/damaged-{log:06d}-{damage.offset}", os.O_WRONLY | os.O_CREAT)
    try:
        position = damage.offset
        while position < damage.end:
            piece = disk.pread(descriptor, min(_COPY_BYTES, damage.end - position), position)
            if not piece:
                break
            disk.pwrite(copy, piece, position - damage.offset)
            position += len(piece)
    finally:
        disk.close(copy)
    _let_go(disk, root)


def _let_go(disk: Disk, root: str) -> None:
    """Remove the oldest copies until at most `MAX_FILES` and `MAX_BYTES` are left; the newest always stays."""
    found = [(int(match[1]), int(match[2]), name) for name in disk.names(root) if (match := _NAME.fullmatch(name))]
    size = 0
    for number, (_, _, name) in enumerate(sorted(found, reverse=True)):
        size += disk.stat(f"{root}/{name}").st_size
        if number and (number >= MAX_FILES or size > MAX_BYTES):
            disk.unlink(f"{root}/{name}")
