"""Arithmetic on the parts of multipart uploads that every store with parts of its own shares. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

from headrace.model.checksums import Algorithm, ChecksumType, PartSum, allows, of_parts
from headrace.model.errors import CorruptData, InvalidPart, InvalidRange, PartTooSmall, Unsupported
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import MAX_PART_NUMBER, Part, Upload
from headrace.model.writing import Pairs
from headrace.stores.writes import TYPE


def upload_order(upload: Upload) -> tuple[bytes, str]:
    """What uploads are sorted by, of stores whose ids sort by their uploads' beginnings."""
    return upload.key.encode(), upload.id


def check_number(key: str, number: int) -> None:
    """Raises `InvalidPart` for what no part can be called."""
    if not 1 <= number <= MAX_PART_NUMBER:
        raise InvalidPart(f"{key!r}: part {number} is not between 1 and {MAX_PART_NUMBER}", path=key)


def check_within(byte_range: ByteRange | None, source: ObjectInfo) -> None:
    """Raises `InvalidRange` unless the range lies wholly within the object and holds something."""
    if byte_range is not None and not 0 <= byte_range.start < byte_range.end <= source.size:
        message = f"bytes {byte_range.start} up to {byte_range.end} do not lie within {source.key!r} of {source.size} bytes"
        raise InvalidRange(message, path=source.key, size=source.size)


def named_parts(key: str, named: Sequence[Part], held: Sequence[Part], min_part_bytes: int) -> tuple[Part, ...]:
    """The parts that complete an upload, as the store holds them. Raises `InvalidPart`, `PartTooSmall`."""
    if not named:
        raise InvalidPart(f"{key!r}: an upload is completed from at least one part", path=key)
    if any(first.number >= second.number for first, second in pairwise(named)):
        raise InvalidPart(f"{key!r}: parts must be named in the rising order of their numbers", path=key)
    known = {part.number: part for part in held}
    parts: list[Part] = []
    for part in named:
        found = known.get(part.number)
        if found is None or found.etag != part.etag.strip('"') or not _agree(part.checksums, found.checksums):
            raise InvalidPart(f"{key!r}: there is no part {part.number} with the ETag {part.etag!r}", path=key)
        parts.append(found)
    for part in parts[:-1]:
        if part.size < min_part_bytes:
            message = f"{key!r}: part {part.number} has {part.size} bytes; all but the last have at least {min_part_bytes}"
            raise PartTooSmall(message, path=key, number=part.number)
    return tuple(parts)


def parts_etag(parts: Sequence[Part]) -> str:
    """The ETag of an object made from parts whose ETags are the MD5s of their bytes."""
    digests = b"".join([bytes.fromhex(part.etag) for part in parts])
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def parts_checksums(algorithm: str, kind: str, parts: Sequence[Part]) -> Pairs:
    """The checksum of an object made from parts of which each has `algorithm`'s; none where one has not."""
    sums = [PartSum(dict(part.checksums).get(algorithm, ""), part.size) for part in parts]
    if not algorithm or not all(part.value for part in sums):
        return ()
    return ((algorithm, of_parts(Algorithm(algorithm), ChecksumType(kind), sums)), (TYPE, kind))


def check_checksums(key: str, wanted: Pairs, found: Pairs) -> None:
    """Raises `CorruptData` unless the object has the checksums that its maker expects, `Unsupported` if one is not known."""
    unknown = {name for name, _ in wanted} - {name for name, _ in found} - {TYPE}
    if unknown:
        raise Unsupported(f"{key!r}: no {sorted(unknown)} of its parts is known: name the algorithm at the beginning", path=key)
    if not _agree(wanted, found):
        raise CorruptData(f"{key!r}: the checksum of the whole object is {dict(found)}, not {dict(wanted)}", path=key)


def can_keep(algorithm: str, kind: str) -> bool:
    """Whether `parts_checksums` can tell that checksum of a whole object."""
    if not algorithm:
        return not kind
    try:
        return allows(Algorithm(algorithm), ChecksumType(kind))
    except ValueError:
        return False


def part_bounds(sizes: Sequence[int], number: int) -> ByteRange | None:
    """The bytes of part `number`, from 1, of an object that was made from parts of those sizes."""
    if not 1 <= number <= len(sizes):
        return None
    start = sum(sizes[: number - 1])
    return ByteRange(start, start + sizes[number - 1])


def _agree(wanted: Pairs, found: Pairs) -> bool:
    known = dict(found)
    return all(known.get(name) == value for name, value in wanted if name != TYPE)
