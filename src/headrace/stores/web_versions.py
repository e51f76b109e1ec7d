"""What a web server's answer says of an object, and how far that proves which version it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from headrace.model.errors import Unsupported
from headrace.model.objects import ObjectInfo, Version

SETTLED_S = 2
"""`Last-Modified` counts seconds, and file systems stamp a little late: so long after it, no change can bear the same stamp."""
_AHEAD_S = 60
"""A stamp that lies further ahead of the server's clock was set by hand: nothing settles it."""
_STRONG = re.compile(r'"([^"\x00-\x1f\x7f]*)"')
_STAMPED = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16})")
_CONTENT_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")


class Seen(msgspec.Struct, frozen=True):
    """An object as one answer tells of it."""

    info: ObjectInfo
    unsettled_s: float
    """For so long another change may get the same version; 0: every change gets another."""


def seen(key: str, size: int, headers: Mapping[str, str], now_s: float) -> Seen:
    """Raises `Unsupported` where the answer holds nothing that would tell one version from the next.

    A strong ETag is taken at its word, unless it says no more than modification time and length, as nginx's does. A weak
    one promises nothing about bytes. `now_s` counts where the server tells no time.
    """
    modified_s = _date(headers.get("last-modified", ""))
    match = _STRONG.fullmatch(headers.get("etag", ""))
    etag = match[1] if match is not None else ""
    if etag and not _is_stamp(etag, modified_s, size):
        return Seen(_info(key, size, f"etag:{etag}", etag, modified_s or 0.0, headers), 0.0)
    if modified_s is None:
        raise Unsupported(
            f"{key!r}: the server tells neither a strong ETag nor Last-Modified, so versions cannot be told apart", path=key
        )
    told_s = _date(headers.get("date", ""))
    age_s = (now_s if told_s is None else told_s) - modified_s
    unsettled_s = max(0.0, SETTLED_S - age_s) if age_s > -_AHEAD_S else 0.0
    token = f"stat:{int(modified_s) * 1_000_000_000}-{size}"
    return Seen(_info(key, size, token, etag or f"{int(modified_s):x}-{size:x}", modified_s, headers), unsettled_s)


def _info(key: str, size: int, token: str, etag: str, modified_s: float, headers: Mapping[str, str]) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=size,
        version=Version(token),
        modified_s=modified_s,
        etag=etag,
        content_type=headers.get("content-type", ""),
        headers=tuple((name, headers[name]) for name in _CONTENT_HEADERS if headers.get(name)),
    )


def _is_stamp(etag: str, modified_s: float | None, size: int) -> bool:
    match = _STAMPED.fullmatch(etag)
    return match is not None and modified_s is not None and (int(match[1], 16), int(match[2], 16)) == (int(modified_s), size)


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
