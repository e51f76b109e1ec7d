"""A local file on its way into the namespace."""

from __future__ import annotations

import asyncio
import hashlib
import os
from functools import partial
from pathlib import Path

from headrace.gateways.writing import PART_BYTES, Outgoing
from headrace.model.errors import CorruptData
from headrace.model.uploads import Part
from headrace.stores.parts import parts_etag
from headrace.stores.s3_parts import part_bytes

_MD5_DIGITS = 32


async def send_file(made: Outgoing, source: Path, *, hold: bool = False) -> os.stat_result:
    """All bytes of `source`, sealed; what the file was.

    Raises `OSError`, and `CorruptData` when the file changes meanwhile; `made` was given up then.
    """
    try:
        fd = await asyncio.to_thread(os.open, source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        await made.discard()
        raise
    try:
        before = os.fstat(fd)
        await _send(made, fd, before.st_size, hold)
        after = os.fstat(fd)
    except BaseException as error:  # whatever it is: tidied up here, raised on
        await made.give_up(error)
        raise
    finally:
        os.close(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        await made.discard()
        raise CorruptData(f"{source} was changed while it was sent: send it again", path=str(source))
    return before


async def _send(made: Outgoing, fd: int, size: int, hold: bool) -> None:
    start, step = 0, part_bytes(size)
    while size - start > PART_BYTES:
        length = min(step, size - start)
        await made.add(partial(_read, fd, start, length))
        start += length
    await made.seal(partial(_read, fd, start, size - start), hold=hold)


def _read(fd: int, start: int, length: int) -> bytearray:
    data = bytearray(length)
    with memoryview(data) as view:
        done = 0
        while done < length:
            count = os.preadv(fd, [view[done:]], start + done)
            if not count:
                raise CorruptData(f"the file became shorter while it was sent: {start + done} bytes are left")
            done += count
    return data


def file_etag(source: Path, like: str) -> str:
    """The ETag that `source` would have if it was sent as the object with the ETag `like` was; empty where that is not known.

    Blocks for reading the file. Raises `OSError`.
    """
    size = source.stat().st_size
    with source.open("rb") as file:
        if "-" not in like:
            if len(like) != _MD5_DIGITS:
                return ""
            return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        step = part_bytes(size)
        if like.rpartition("-")[2] != str(-(-size // step)):
            return ""
        parts: list[Part] = []
        while data := file.read(step):
            parts.append(Part(len(parts) + 1, hashlib.md5(data, usedforsecurity=False).hexdigest()))
    return parts_etag(parts)
