"""`If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since` and `If-Range`. Pure."""

from __future__ import annotations

import re
from enum import Enum

from headrace.gateways.http.dates import parse_date
from headrace.model.objects import ObjectInfo

_TAG = re.compile(rb'[ \t]*(W/)?(?:"([^"\x00-\x1f\x7f]*)"|([^",\s]+))[ \t]*(?:,|$)')
NAMES = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")


class Verdict(Enum):
    """What the conditions of a read come to."""

    GO = 200
    NOT_MODIFIED = 304
    FAILED = 412


def judge(headers: dict[bytes, bytes], info: ObjectInfo, now_s: float) -> Verdict:
    """RFC 9110's precedence: each date counts only where its entity-tag sibling is absent. Malformed dates are ignored."""
    if_match = headers.get(b"if-match")
    if if_match is not None:
        if not _matches(if_match, info.etag, weak=False):
            return Verdict.FAILED
    elif _changed_since(headers.get(b"if-unmodified-since"), info, now_s) is True:
        return Verdict.FAILED
    if_none_match = headers.get(b"if-none-match")
    if if_none_match is not None:
        return Verdict.NOT_MODIFIED if _matches(if_none_match, info.etag, weak=True) else Verdict.GO
    if _changed_since(headers.get(b"if-modified-since"), info, now_s) is False:
        return Verdict.NOT_MODIFIED
    return Verdict.GO


def range_still_valid(if_range: bytes | None, info: ObjectInfo, now_s: float) -> bool:
    """Whether a `Range` holds under an `If-Range`: the same strong tag or exactly the same date."""
    if if_range is None:
        return True
    text = if_range.strip(b" \t")
    if text.startswith((b'"', b"W/")):
        return not text.startswith(b"W/") and text != b"*" and _matches(text, info.etag, weak=False)
    return parse_date(text, now_s) == int(info.modified_s)


def _matches(header: bytes, etag: str, *, weak: bool) -> bool:
    if header.strip(b" \t") in (b"*", b'"*"'):
        return True
    if not etag:
        return False
    wanted = etag.encode()
    position = 0
    while position < len(header):
        match = _TAG.match(header, position)
        if match is None:
            return False
        tag = match[2] if match[2] is not None else match[3]
        if tag == wanted and (weak or not match[1]):
            return True
        position = match.end()
    return False


def _changed_since(header: bytes | None, info: ObjectInfo, now_s: float) -> bool | None:
    """None when there is no usable date."""
    since = parse_date(header.strip(b" \t"), now_s) if header is not None else None
    return None if since is None else int(info.modified_s) > since
