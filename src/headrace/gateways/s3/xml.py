"""Text and numbers as S3's XML writes them."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from urllib.parse import quote

_SPECIAL = re.compile('[&<>"\x00-\x1f\x7f\ufffe\uffff\ud800-\udfff]')
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(text: str) -> str:
    """Character data. Control characters become references, as S3 sends them; lone surrogates a replacement mark."""
    return _SPECIAL.sub(_entity, text) if _SPECIAL.search(text) else text


def _entity(match: re.Match[str]) -> str:
    char = match[0]
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    return _NAMED.get(char) or f"&#x{ord(char):X};"


def owner_element(owner_id: str, element: str = "Owner") -> str:
    """Somebody, as S3 shows owners and initiators."""
    name = escape(owner_id)
    return f"<{element}><ID>{name}</ID><DisplayName>{name}</DisplayName></{element}>"


def url_encode(text: str) -> str:
    """A key as `encoding-type=url` shows it."""
    return quote(text, safe="/-._~*")


@lru_cache(maxsize=4096)
def timestamp(seconds: int) -> str:
    """`2026-11-23T04:05:06.000Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
