"""Arithmetic on keys, ranges and listings that every store shares. Pure."""

from __future__ import annotations

from headrace.model.errors import InvalidKey, InvalidRange
from headrace.model.objects import ByteRange

MAX_KEY_BYTES = 1024
PAGE_KEYS = 990
"""What to ask of a listing that is seen to its end. S3 sends 1,000, and some stores are asked for some before and one behind."""
PROOF_NAME = ".headrace-proof-"
"""What the names of the objects of a moment begin with by which stores are tried; 16 random hexadecimal digits follow."""


def check_key(key: str) -> None:
    """Raises `InvalidKey` unless the key is text of 1 to 1,024 UTF-8 bytes."""
    check_text(key)
    length = len(key.encode())
    if not 1 <= length <= MAX_KEY_BYTES:
        raise InvalidKey(f"a key of {length} bytes: keys have 1 to {MAX_KEY_BYTES} bytes", path=key)


def check_text(*texts: str) -> None:
    """Raises `InvalidKey` unless all can be written as UTF-8: the prefix, delimiter and start of a listing."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(f"{text!r} is not valid Unicode text: give it as UTF-8", path=text) from error


def cut_range(byte_range: ByteRange | None, size: int, key: str) -> ByteRange:
    """The bytes of an object of `size` bytes that a read yields. Raises `InvalidRange`."""
    if byte_range is None:
        return ByteRange(0, size)
    if not 0 <= byte_range.start < size or byte_range.end <= byte_range.start:
        message = f"bytes {byte_range.start} up to {byte_range.end} lie outside {key!r}, which has {size} bytes"
        raise InvalidRange(message, path=key, size=size)
    return ByteRange(byte_range.start, min(byte_range.end, size))


def rolled_up(key: str, prefix: str, delimiter: str) -> str | None:
    """The CommonPrefix that stands for `key` in a listing, or None when the key is listed itself."""
    if not delimiter:
        return None
    position = key.find(delimiter, len(prefix))
    return None if position < 0 else key[: position + len(delimiter)]


def behind_prefix(prefix: str) -> bytes:
    """The smallest bytes that sort behind every key that begins with `prefix` (which is not empty).

    UTF-8 never holds the byte 0xFF, so the last byte can always be raised by one.
    """
    encoded = prefix.encode()
    return encoded[:-1] + bytes((encoded[-1] + 1,))


def text_behind(prefix: str) -> str:
    """The smallest text that sorts behind every key that begins with `prefix`, for stores that start at a text."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return prefix + "\U0010ffff"
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
