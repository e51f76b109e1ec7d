"""The `Range` header, as RFC 9110 and S3 read it. Pure."""

from __future__ import annotations

import re

from headrace.model.objects import ByteRange

_ONE = re.compile(rb"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)
_FAR = 2**63 - 1


class Suffix(int):
    """The last so many bytes."""


RangeWish = ByteRange | Suffix | None


def parse_range(header: bytes | None) -> RangeWish:
    """What a `Range` asks for; None: the whole object.

    Malformed ranges, other units and several ranges are ignored, as S3 does. The end is cut to
    the object later; a `ByteRange` from here may reach far behind it.
    """
    if header is None or len(header) > 128:
        return None
    match = _ONE.fullmatch(header)
    if match is None:
        return None
    first, last = match[1], match[2]
    if not first:
        return Suffix(min(int(last), _FAR)) if last else None
    start, end = int(first), int(last) if last else _FAR
    if last and end < start:
        return None
    # Places beyond what any object has are all alike.
    return ByteRange(min(start, _FAR - 1), min(end + 1, _FAR))


def fit_range(wish: RangeWish, size: int) -> ByteRange | None:
    """The bytes that `wish` means in an object of `size` bytes; None when it is unsatisfiable."""
    if wish is None:
        return ByteRange(0, size)
    if isinstance(wish, Suffix):
        return ByteRange(max(size - wish, 0), size) if wish and size else None
    return ByteRange(wish.start, min(wish.end, size)) if wish.start < size else None
