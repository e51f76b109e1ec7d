"""What a request is about: bucket, key and query, decoded exactly once.

Policy, cache and namespace all see the path made here, so that no second reading of it exists.
"""

from __future__ import annotations

import re

import msgspec

from headrace.gateways.http.messages import Request
from headrace.gateways.s3.errors import S3Error
from headrace.model.sigv4 import Pair, split_query, unquote

_MAX_KEY_BYTES = 1024
_MAX_BUCKET_BYTES = 255
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]*)(?::\d{1,5})?")


class Target(msgspec.Struct, frozen=True):
    """`bucket` is empty for the service itself, `key` for a bucket. `query` keeps its order."""

    bucket: str
    key: str
    query: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """The namespace's path."""
        return f"/{self.bucket}/{self.key}" if self.key else f"/{self.bucket}"

    def get(self, name: str, default: str = "") -> str:
        """The value of a query parameter."""
        for given, value in self.query:
            if given == name:
                return value
        return default

    def has(self, name: str) -> bool:
        return any(given == name for given, _ in self.query)


def read_target(request: Request, domain: str) -> Target:
    """Raises `S3Error` for a path that is not one clear key."""
    path = decode_path(request.path)
    bucket = host_bucket(request.headers.get(b"host", b""), domain)
    if bucket:
        key = path[1:]
    else:
        bucket, _, key = path[1:].partition("/")
        if not bucket and key:
            raise S3Error("InvalidBucketName", "The specified bucket is not valid.")
    check_names(bucket, key)
    return Target(bucket, key, _text_pairs(split_query(request.query)) if request.query else ())


def check_names(bucket: str, key: str) -> None:
    """Raises `S3Error` for what no bucket or key can be called, wherever a request names it."""
    if bucket in (".", "..") or len(bucket.encode()) > _MAX_BUCKET_BYTES:
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.")
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", "Your key is too long")
    if "\0" in key:
        raise S3Error("InvalidURI", "The URI holds a NUL.")


def decode_path(raw: bytes) -> str:
    """Percent-decode once. Raises `S3Error` for bad escapes, bytes that are not UTF-8, and NUL."""
    if b"%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise S3Error("InvalidURI", "Couldn't parse the specified URI.")
        raw = unquote(raw)
    return _text(raw)


def host_bucket(host: bytes, domain: str) -> str:
    """The bucket that a host name carries in front of `domain`; empty for path style."""
    if not domain:
        return ""
    match = _HOST.fullmatch(host.decode("latin-1").strip(" \t"))
    if match is None:
        raise S3Error("InvalidURI", "Couldn't parse the host of the request.")
    name = match[1].lower().rstrip(".")
    suffix = "." + domain.lower().rstrip(".")
    return name[: -len(suffix)] if name.endswith(suffix) else ""


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "The URI is not UTF-8 when decoded.") from None
    if "\0" in text:
        raise S3Error("InvalidURI", "The URI holds a NUL.")
    return text


def _text_pairs(pairs: list[Pair]) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(value)) for name, value in pairs)
