"""The journal's format: framed, checksummed records, one behind the other. Pure.

A record is a head of 40 bytes, its entry (msgpack), the body of a small write, and zeros up to a multiple of 8. The head's own
checksum covers the head and the entry, so that what a record is about is known also when its body is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec
import xxhash

from headrace.model.reading import Buffer
from headrace.model.writing import Attributes, Pairs

MAGIC = b"HRJ1"
_HEAD = struct.Struct("<4s4xQQQQ")
"""Magic, length of the entry, length of the body, XXH3-64 of the body, XXH3-64 of all before it and of the entry."""
HEAD_BYTES = _HEAD.size
_MAX_ENTRY_BYTES = 1 << 20
_ALIGN = 8
_STEP_BYTES = 1 << 20

UNKNOWN, ABSENT = "?", "-"
"""What a write replaces, when it is not an entity tag: not known; no object."""

Read = Callable[[int, int], bytes]
"""`(offset, length)`: bytes of the log, fewer where it ends."""


class Put(msgspec.Struct, frozen=True, tag="put"):
    """An object was written. Its body follows, or lies in the file `body_file` with the XXH3-64 `body_sum`."""

    key: str
    size: int
    etag: str
    staged_s: float
    """Seconds since 1970 UTC at which it was acknowledged."""
    attributes: Attributes = Attributes()
    checksums: Pairs = ()
    replaces: str = UNKNOWN
    """The entity tag of what the writer saw in its place, `ABSENT` or `UNKNOWN`."""
    body_file: str = ""
    body_sum: int = 0


class Delete(msgspec.Struct, frozen=True, tag="delete"):
    """An object was removed."""

    key: str
    staged_s: float
    replaces: str = UNKNOWN


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The entry at `offset` of log number `log` has reached the store, or was settled otherwise."""

    log: int
    offset: int
    key: str
    left: str = UNKNOWN
    """The entity tag that the store has now, or `ABSENT`: what the key's next entry replaces."""


Entry = Put | Delete | Done

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


class Record(msgspec.Struct, frozen=True):
    """A record as it was found. The body lies at `body_offset` of the log, `body_bytes` long."""

    entry: Entry
    offset: int
    end: int
    body_offset: int
    body_bytes: int
    body_sum: int


class Damage(msgspec.Struct, frozen=True):
    """Bytes that are no whole record. `key` is known when only the body is damaged."""

    offset: int
    end: int
    key: str = ""


def encode(entry: Entry, body: Buffer = b"") -> bytes:
    """The record of an entry."""
    told = _encoder.encode(entry)
    start = _HEAD.pack(MAGIC, len(told), len(body), xxhash.xxh3_64_intdigest(body), 0)[:-8]
    head = start + xxhash.xxh3_64_intdigest(start + told).to_bytes(8, "little")
    length = HEAD_BYTES + len(told) + len(body)
    return b"".join((head, told, body, bytes(-length % _ALIGN)))


def decode(read: Read, offset: int) -> Record | None:
    """The record that begins at `offset`; None when no whole head of one does. Its body is not looked at."""
    head = read(offset, HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    magic, told_bytes, body_bytes, body_sum, head_sum = _HEAD.unpack(head)
    if magic != MAGIC or told_bytes > _MAX_ENTRY_BYTES:
        return None
    told = read(offset + HEAD_BYTES, told_bytes)
    if xxhash.xxh3_64_intdigest(head[:-8] + told) != head_sum:
        return None
    try:
        entry = _decoder.decode(told)
    except msgspec.MsgspecError:
        return None
    body_offset = offset + HEAD_BYTES + told_bytes
    end = body_offset + body_bytes
    return Record(entry, offset, end + -end % _ALIGN, body_offset, body_bytes, body_sum)


def scan(read: Read, start: int, end: int) -> Iterator[Record | Damage]:
    """All records from `start` up to `end`, bodies proved, and what lies between them that is none.

    Behind damage the scan goes on at the next whole record. Damage that reaches to `end` is a tail that was torn off.
    """
    position = start
    while position < end:
        record = decode(read, position)
        if record is not None and record.end <= end:
            if _is_whole(read, record):
                yield record
            else:
                yield Damage(position, record.end, "" if isinstance(record.entry, Done) else record.entry.key)
            position = record.end
        else:
            following = _next_record(read, position + _ALIGN, end)
            yield Damage(position, following)
            position = following


def _is_whole(read: Read, record: Record) -> bool:
    digest = xxhash.xxh3_64()
    position, left = record.body_offset, record.body_bytes
    while left:
        piece = read(position, min(left, _STEP_BYTES))
        if not piece:
            return False
        digest.update(piece)
        position += len(piece)
        left -= len(piece)
    return digest.intdigest() == record.body_sum


def _next_record(read: Read, start: int, end: int) -> int:
    """Where the next whole record begins; `end` when there is none."""
    position = start
    while position < end:
        block = read(position, min(_STEP_BYTES, end - position))
        if not block:
            return end
        found = block.find(MAGIC)
        while found >= 0:
            at = position + found
            record = decode(read, at) if at % _ALIGN == 0 else None
            if record is not None and record.end <= end and _is_whole(read, record):
                return at
            found = block.find(MAGIC, found + 1)
        # A magic may lie across two blocks.
        position += len(block) if position + len(block) >= end else max(1, len(block) - len(MAGIC) + 1)
    return end
