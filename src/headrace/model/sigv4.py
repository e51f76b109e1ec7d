"""AWS Signature Version 4 as S3 does it: arithmetic only, for our own requests and for checking others'.

The wire is bytes, so everything here is bytes except what people type. Paths are encoded once
and never normalised (`a//b` and `..` stay); a query is decoded once and encoded again, so that
what is signed and what is acted on are one reading.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

ALGORITHM = b"AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest().encode()
UNSIGNED_PAYLOAD = b"UNSIGNED-PAYLOAD"
MAX_EXPIRES_S = 7 * 24 * 3600

Pair = tuple[bytes, bytes]

_PATH_RESERVED = re.compile(rb"[^A-Za-z0-9\-._~/]")
_QUERY_RESERVED = re.compile(rb"[^A-Za-z0-9\-._~]")
_CANONICAL_PATH = re.compile(rb"/[A-Za-z0-9\-._~/]*")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_SPACES = re.compile(rb" {2,}")
_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_HEX = [b"%%%02X" % byte for byte in range(256)]


class SigningIdentity(msgspec.Struct, frozen=True):
    """Who signs, and for which region and service. Its repr shows no secret."""

    key_id: str
    secret: str
    region: str
    session_token: str = ""
    service: str = "s3"

    def __repr__(self) -> str:
        return f"SigningIdentity(key_id={self.key_id!r}, region={self.region!r}, service={self.service!r})"


class UnsignedRequest(msgspec.Struct, frozen=True):
    """What is to be signed. `path` is encoded as it goes out; `query` is not encoded; names of `headers` are lower case."""

    method: bytes
    path: bytes
    query: tuple[Pair, ...]
    headers: tuple[Pair, ...]
    payload_hash: bytes = EMPTY_SHA256


def quote_path(data: bytes) -> bytes:
    """Percent-encode all but unreserved characters and `/`."""
    return _PATH_RESERVED.sub(_quote_byte, data)


def quote_query(data: bytes) -> bytes:
    """Percent-encode all but unreserved characters."""
    return _QUERY_RESERVED.sub(_quote_byte, data)


def unquote(data: bytes) -> bytes:
    """Undo percent-encoding once. A `%` that begins no escape stays as it is."""
    if b"%" not in data:
        return data
    return _PERCENT.sub(_unquote_byte, data)


def canonical_path(raw: bytes) -> bytes:
    """The canonical form of a path as it came on the wire (without its query)."""
    if _CANONICAL_PATH.fullmatch(raw):
        return raw
    return quote_path(unquote(raw)) or b"/"


def split_query(raw: bytes) -> list[Pair]:
    """Names and values of a raw query string, decoded once, in their order; `+` is a space."""
    if not raw:
        return []
    pairs = []
    for piece in raw.replace(b"+", b"%20").split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append((unquote(name), unquote(value)))
    return pairs


def canonical_query(pairs: Iterable[Pair]) -> bytes:
    """Decoded pairs, encoded, sorted by encoded name and then value, and joined."""
    return b"&".join([name + b"=" + value for name, value in sorted((quote_query(n), quote_query(v)) for n, v in pairs)])


def canonical_value(value: bytes) -> bytes:
    """A header's value without surrounding spaces and with runs of spaces made one."""
    value = value.strip()
    return _SPACES.sub(b" ", value) if b"  " in value else value


def canonical_headers(headers: Iterable[Pair]) -> tuple[bytes, bytes]:
    """The canonical header lines, each ended by a newline, and the list of signed names.

    `headers` are exactly those to be signed, names in lower case; a repeated name's values are
    joined by commas in their order.
    """
    merged: dict[bytes, bytes] = {}
    for name, value in headers:
        text = canonical_value(value)
        merged[name] = merged[name] + b"," + text if name in merged else text
    names = sorted(merged)
    return b"".join([name + b":" + merged[name] + b"\n" for name in names]), b";".join(names)


def canonical_request(method: bytes, path: bytes, query: bytes, headers: tuple[bytes, bytes], payload_hash: bytes) -> bytes:
    """Joins canonical parts: `headers` is what `canonical_headers` returned."""
    return b"\n".join((method, path, query, headers[0], headers[1], payload_hash))


def credential_scope(date: bytes, region: bytes, service: bytes = b"s3") -> bytes:
    """`20260131/us-east-1/s3/aws4_request`; `date` may be the whole time stamp."""
    return b"/".join((date[:8], region, service, b"aws4_request"))


def string_to_sign(stamp: bytes, scope: bytes, request: bytes) -> bytes:
    """What the key signs, for a canonical request made at `stamp` (`20260131T235959Z`)."""
    return b"\n".join((ALGORITHM, stamp, scope, hashlib.sha256(request).hexdigest().encode()))


@lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str = "s3") -> bytes:
    """The key of one day (`20260131`), region and service. Remembered: it costs four HMACs."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    for step in (region.encode(), service.encode(), b"aws4_request"):
        key = hmac.digest(key, step, "sha256")
    return key


def signature(key: bytes, text: bytes) -> bytes:
    """The signature as 64 lower-case hexadecimal digits. Compare with `hmac.compare_digest`."""
    inner, outer = hmac_begun(key)
    inner, outer = inner.copy(), outer.copy()
    inner.update(text)
    outer.update(inner.digest())
    return outer.hexdigest().encode()


@lru_cache(maxsize=1024)
def hmac_begun(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """The HMAC of a key begun: going on from a copy costs a quarter of `hmac.digest`."""
    padded = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(padded.translate(_INNER)), hashlib.sha256(padded.translate(_OUTER))


@lru_cache(maxsize=16)
def time_stamp(now_s: int) -> str:
    """Seconds since 1970 UTC as `20260131T235959Z`."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))


def sign_headers(request: UnsignedRequest, identity: SigningIdentity, now_s: float) -> list[tuple[str, str]]:
    """The headers to add to `request`: `x-amz-date`, `x-amz-content-sha256`, a session token, `authorization`.

    Every header in `request.headers` is signed, so hand in only what no proxy on the way changes;
    `host` must be among them.
    """
    stamp = time_stamp(int(now_s))
    added = [("x-amz-date", stamp)]
    if identity.service == "s3":
        added.append(("x-amz-content-sha256", request.payload_hash.decode()))
    if identity.session_token:
        added.append(("x-amz-security-token", identity.session_token))
    headers = canonical_headers([*request.headers, *((name.encode(), value.encode()) for name, value in added)])
    scope, digest = _sign(request, identity, stamp, query=request.query, headers=headers, payload_hash=request.payload_hash)
    added.append(
        (
            "authorization",
            f"AWS4-HMAC-SHA256 Credential={identity.key_id}/{scope},SignedHeaders={headers[1].decode()},Signature={digest}",
        )
    )
    return added


def presign_query(request: UnsignedRequest, identity: SigningIdentity, now_s: float, *, expires_s: int) -> bytes:
    """The whole query string of a presigned URL, encoded, with `X-Amz-Signature` last.

    The body is not signed, whatever `request.payload_hash` says, when the service is S3.
    """
    stamp = time_stamp(int(now_s))
    headers = canonical_headers(request.headers)
    scope = credential_scope(stamp.encode(), identity.region.encode(), identity.service.encode())
    pairs: list[Pair] = [
        *request.query,
        (b"X-Amz-Algorithm", ALGORITHM),
        (b"X-Amz-Credential", identity.key_id.encode() + b"/" + scope),
        (b"X-Amz-Date", stamp.encode()),
        (b"X-Amz-Expires", str(expires_s).encode()),
        (b"X-Amz-SignedHeaders", headers[1]),
    ]
    if identity.session_token:
        pairs.append((b"X-Amz-Security-Token", identity.session_token.encode()))
    payload_hash = UNSIGNED_PAYLOAD if identity.service == "s3" else request.payload_hash
    _, digest = _sign(request, identity, stamp, query=pairs, headers=headers, payload_hash=payload_hash)
    return canonical_query(pairs) + b"&X-Amz-Signature=" + digest.encode()


def _sign(
    request: UnsignedRequest,
    identity: SigningIdentity,
    stamp: str,
    *,
    query: Sequence[Pair],
    headers: tuple[bytes, bytes],
    payload_hash: bytes,
) -> tuple[str, str]:
    """Scope and signature of a request."""
    scope = credential_scope(stamp.encode(), identity.region.encode(), identity.service.encode())
    canonical = canonical_request(request.method, request.path, canonical_query(query), headers, payload_hash)
    key = signing_key(identity.secret, stamp[:8], identity.region, identity.service)
    return scope.decode(), signature(key, string_to_sign(stamp.encode(), scope, canonical)).decode()


def _quote_byte(match: re.Match[bytes]) -> bytes:
    return _HEX[match[0][0]]


def _unquote_byte(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))
