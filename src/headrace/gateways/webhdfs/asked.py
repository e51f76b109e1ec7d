"""What a request says: its path and its parameters, decoded exactly once. Pure.

Policy, cache and namespace all see the path made here, so that no second reading of it exists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter
from headrace.model.sigv4 import quote_path, unquote

PREFIX = b"/webhdfs/v1"
_OP = re.compile(rb"(?:^|&)op=", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_OCTAL = re.compile(r"[01]?[0-7]{3}")
_MOST_PARAMETERS = 64
_MOST_PATH_BYTES = 1024 + 255 + 2
_MOST_BUCKET_BYTES = 255


def is_webhdfs(path: bytes, query: bytes) -> bool:
    """Whether a request is one of WebHDFS. An S3 request for a bucket `webhdfs` never names an `op`."""
    return path.startswith(PREFIX) and path[len(PREFIX) : len(PREFIX) + 1] in (b"", b"/") and _OP.search(query) is not None


class Asked(msgspec.Struct, frozen=True):
    """`path` is the namespace's, `/` for its root; `values` are the parameters by their names in lower case."""

    path: str
    values: Mapping[str, str]

    @property
    def op(self) -> str:
        return self.values.get("op", "").upper()

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Raises `HdfsError` for anything but `true` and `false`."""
        text = self.values.get(name, "").lower()
        if text not in ("", "true", "false"):
            raise bad_parameter(name, f"{text[:40]!a} is neither true nor false")
        return text == "true" if text else default

    def number(self, name: str, default: int) -> int:
        """Raises `HdfsError` for what is no number of at most 18 digits."""
        text = self.values.get(name, "")
        if not text or text == "null":
            return default
        if not _NUMBER.fullmatch(text):
            raise bad_parameter(name, f"{text[:40]!a} is not a number")
        return int(text)

    def octal(self, name: str) -> int | None:
        """A permission such as `644`. Raises `HdfsError`."""
        text = self.values.get(name, "")
        if not text or text == "null":
            return None
        if not _OCTAL.fullmatch(text):
            raise bad_parameter(name, f"{text[:40]!a} is not a permission in octal, such as 644")
        return int(text, 8)


def read_asked(path: bytes, query: bytes) -> Asked:
    """Raises `HdfsError` for a path that is not one clear name, and for parameters that can be read twice."""
    return Asked(clean_path(_decoded(path[len(PREFIX) :], "path") or "/"), read_query(query))


def read_query(raw: bytes) -> dict[str, str]:
    """The parameters. Raises `HdfsError` for bad escapes, names that come with two values, and too many."""
    found: dict[str, str] = {}
    pairs = [pair for pair in raw.split(b"&") if pair]
    if len(pairs) > _MOST_PARAMETERS:
        raise HdfsError("IllegalArgumentException", f"more than {_MOST_PARAMETERS} parameters")
    for pair in pairs:
        raw_name, _, raw_value = pair.partition(b"=")
        name = _decoded(raw_name.replace(b"+", b" "), "name of a parameter").lower()
        value = _decoded(raw_value.replace(b"+", b" "), f"parameter {name[:40]}")
        if found.setdefault(name, value) != value:
            raise bad_parameter(name[:40], "it is given more than once, and not alike")
    return found


def clean_path(text: str) -> str:
    """A path of the namespace, without a slash at its end. Raises `HdfsError` for what is no name in HDFS."""
    if text == "/":
        return text
    path = text.removesuffix("/")
    names = path.split("/")
    if names[0] or any(name in ("", ".", "..") for name in names[1:]) or "\0" in path:
        raise HdfsError("InvalidPathException", f"Invalid path name: {text[:200]!a}: names between single slashes are taken")
    if len(path.encode()) > _MOST_PATH_BYTES or len(names[1].encode()) > _MOST_BUCKET_BYTES:
        raise HdfsError("InvalidPathException", f"Invalid path name: it is longer than {_MOST_PATH_BYTES} bytes")
    return path


def quoted(path: str) -> str:
    """A path as it stands in a URL behind the prefix."""
    return quote_path(path.encode()).decode()


def _decoded(raw: bytes, what: str) -> str:
    if b"%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise HdfsError("IllegalArgumentException", f"the {what} holds a % that begins no escape")
        raw = unquote(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise HdfsError("IllegalArgumentException", f"the {what} is not UTF-8 when decoded") from None
    if "\0" in text:
        raise HdfsError("IllegalArgumentException", f"the {what} holds a NUL")
    return text
