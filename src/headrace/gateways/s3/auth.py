"""Who is calling: Signature Version 4, in the header or in a presigned URL, or nobody.

Every check that does not need the key comes first and says what is wrong with the request; the
signature itself is compared in constant time, and its refusal says nothing more.
"""

from __future__ import annotations

import re
import time
from binascii import hexlify
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from operator import itemgetter
from typing import Protocol

import msgspec

from headrace.gateways.http.dates import parse_date
from headrace.gateways.http.messages import Request
from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.streaming_auth import ChunkSeed
from headrace.model.sigv4 import (
    ALGORITHM,
    EMPTY_SHA256,
    MAX_EXPIRES_S,
    UNSIGNED_PAYLOAD,
    Pair,
    canonical_path,
    canonical_query,
    canonical_value,
    credential_scope,
    hmac_begun,
    signature,
    split_query,
)
from headrace.policy.rules import ANONYMOUS, Caller

WINDOW_S = 900
_MAX_SIGNERS = 1024
_MAX_SHAPES = 64
_MAX_STAMPS = 16
_AUTHORIZATION = re.compile(
    rb"AWS4-HMAC-SHA256 +Credential=([^\s,/][^\s,]{0,255}?)/([^/,\s]*)/([^/,\s]*)/([^/,\s]*)/([^/,\s]*), ?"
    rb"SignedHeaders=([^\s,]{0,4096}), ?"
)
_CREDENTIAL = re.compile(rb"([^\s,/][^\s,]{0,255}?)/([^/]*)/([^/]*)/([^/]*)/([^/]*)")
_SIGNATURE = re.compile(rb"[0-9a-f]{64}")
_STAMP = re.compile(rb"\d{8}T\d{6}Z")
_HEADER_NAMES = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+(?:;[!#$%&'*+\-.^_`|~0-9a-z]+)*")
_ZERO_OFFSET = re.compile(rb" [+-]0000\Z")
_EXPIRES = re.compile(rb"\d{1,9}")
_CONTENT_SHA = re.compile(rb"[0-9a-f]{64}|UNSIGNED-PAYLOAD|STREAMING-[A-Z0-9-]{1,64}")
_PLAIN_CONTENT = (EMPTY_SHA256, UNSIGNED_PAYLOAD)
_QUERY_NAMES = (
    b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Date", b"X-Amz-Expires", b"X-Amz-SignedHeaders", b"X-Amz-Signature",
)  # fmt: skip


class Identity(msgspec.Struct, frozen=True):
    """An authenticated caller. `content_sha256` is what the caller signed about the body."""

    caller: Caller
    content_sha256: bytes = UNSIGNED_PAYLOAD
    chunk_seed: ChunkSeed | None = None
    """For a body that is sent in signed chunks."""


NOBODY = Identity(ANONYMOUS)


class FormClaim(msgspec.Struct, frozen=True):
    """What a browser's form says about its signer: the fields as they were sent."""

    algorithm: bytes
    credential: bytes
    stamp: bytes
    policy: bytes
    """In base64, which is what was signed."""
    signature: bytes


class _Scope(msgspec.Struct, frozen=True):
    """What a credential says it is good for."""

    key_id: bytes
    date: bytes
    region: bytes
    service: bytes
    terminator: bytes
    signed: bytes = b""
    """The list of signed headers as it was sent."""
    names: tuple[bytes, ...] = ()
    members: frozenset[bytes] = frozenset()
    """The same list taken apart; empty when it is malformed."""


class Hash(Protocol):
    """What `hashlib` makes."""

    def copy(self) -> Hash: ...

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...


class Signer(msgspec.Struct, frozen=True):
    """A client's way of signing that was right before: all but the values of one request."""

    inner: Hash
    outer: Hash
    """The day key's HMAC begun: copying both is half the price of beginning anew."""
    date: bytes
    template: bytes
    """The canonical request with places for method, path, the signed headers' values and the body's hash."""
    names: tuple[bytes, ...]
    """The signed headers."""
    values: Callable[[dict[bytes, bytes]], tuple[bytes, ...]]
    scope: bytes
    identity: Identity
    shapes: set[tuple[bytes, ...]]
    """Header names, in their order, under which nothing that must be signed was left out."""
    begun: dict[bytes, tuple[int, Hash]]
    """The inner hash up to what depends on the request alone, and when that is, by the time of signing."""

    def check(self, stamp: bytes, canonical: bytes, claimed: bytes, now_s: float) -> Identity | None:
        """The caller when `claimed` is the signature of the canonical request made at `stamp`, and `now_s` is near it.

        `canonical` was filled with values that are canonical already.
        """
        begun = self.begun.get(stamp) or self._begin(stamp)
        if begun is None or not -WINDOW_S <= now_s - begun[0] <= WINDOW_S:
            return None
        inner, outer = begun[1].copy(), self.outer.copy()
        inner.update(hexlify(sha256(canonical).digest()))
        outer.update(inner.digest())
        return self.identity if compare_digest(hexlify(outer.digest()), claimed) else None

    def _begin(self, stamp: bytes) -> tuple[int, Hash] | None:
        signed_at = _stamp_s(stamp)
        if signed_at is None or stamp[:8] != self.date:
            return None
        inner = self.inner.copy()
        inner.update(b"AWS4-HMAC-SHA256\n%b\n%b" % (stamp, self.scope))
        if len(self.begun) >= _MAX_STAMPS:
            self.begun.clear()
        self.begun[stamp] = (signed_at, inner)
        return signed_at, inner


class Authenticator:
    """Checks signatures with the keys of a ring, for one region. No IO; the time is handed in."""

    def __init__(self, keys: KeyRing, region: str) -> None:
        self._keys = keys
        self._region = region.encode()
        self._signers: dict[bytes, Signer] = {}
        self._generation = keys.generation

    def recognise(self, request: Request, now_s: float) -> Identity | None:
        """A rightly signed request without a query, of a client that `identify` has seen; else None.

        Checks all that `identify` does: what it skips depends on the parts of the `Authorization`
        and the header names alone, which are the very ones that passed there.
        """
        headers = request.headers
        before, _, claimed = headers.get(b"authorization", b"").rpartition(b"Signature=")
        signer = self._signers.get(before)
        if signer is None or self._generation != self._keys.generation or tuple(headers) not in signer.shapes:
            return None
        content = headers[b"x-amz-content-sha256"]
        if content not in _PLAIN_CONTENT:
            return None
        canonical = signer.template % (request.method, canonical_path_kept(request.path), *signer.values(headers), content)
        if b"  " in canonical or b" \n" in canonical or b"\t" in canonical:
            return None
        return signer.check(headers[b"x-amz-date"], canonical, claimed, now_s)

    @property
    def generation(self) -> int:
        """Which state of the keys holds now: what was learnt under another is void."""
        return self._keys.generation

    def signer(self, request: Request) -> tuple[bytes, Signer] | None:
        """The text before the signature, and the way of signing, of a request that `recognise` would look at."""
        before = request.headers.get(b"authorization", b"").rpartition(b"Signature=")[0]
        signer = self._signers.get(before)
        if signer is None or self._generation != self._keys.generation or tuple(request.headers) not in signer.shapes:
            return None
        return before, signer

    def _remember(self, before: bytes, scope: _Scope, headers: dict[bytes, bytes], identity: Identity) -> None:
        """After a right signature by header, so that only callers who hold a key are remembered."""
        names = scope.names
        if len(names) < 2 or b"x-amz-date" not in headers:
            return
        if self._generation != self._keys.generation or len(self._signers) >= _MAX_SIGNERS:
            self._signers = {}
            self._generation = self._keys.generation
        signer = self._signers.get(before)
        if signer is None:
            key = self._keys.day_key(scope.key_id, scope.date, scope.region)
            if key is None:
                return
            lines = b"".join([name.replace(b"%", b"%%") + b":%b\n" for name in names])
            template = b"%b\n%b\n\n" + lines + b"\n" + scope.signed.replace(b"%", b"%%") + b"\n%b"
            text = b"%b/%b/s3/aws4_request\n" % (scope.date, scope.region)
            plain = Identity(identity.caller, EMPTY_SHA256)
            signer = Signer(*hmac_begun(key), scope.date, template, names, itemgetter(*names), text, plain, set(), {})
            self._signers[before] = signer
        shape = tuple(headers)
        if shape not in signer.shapes and len(signer.shapes) < _MAX_SHAPES:
            signer.shapes.add(shape)

    def identify(self, request: Request, now_s: float) -> Identity:
        """Raises `S3Error` for everything but a right signature or none at all."""
        authorization = request.headers.get(b"authorization")
        pairs = _credential_pairs(request.query) if request.query else None
        if authorization is not None:
            if pairs is not None:
                raise refused("InvalidArgument", "Only one auth mechanism allowed: the header or the query, not both.")
            return self._by_header(request, authorization, now_s)
        return NOBODY if pairs is None else self._by_query(request, pairs, now_s)

    def identify_form(self, claim: FormClaim, now_s: float) -> Identity:
        """Who signed a browser's form. Raises `S3Error` unless the signature is right; what it allows is in the policy."""
        match = _CREDENTIAL.fullmatch(claim.credential)
        if claim.algorithm != ALGORITHM or match is None:
            raise refused("InvalidArgument", "X-Amz-Algorithm or X-Amz-Credential of the form is malformed.")
        scope = _scope(match, b"")
        signed_at = _stamp_s(claim.stamp)
        if signed_at is None:
            raise refused("InvalidArgument", "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        self._check_scope(scope, claim.stamp, "InvalidArgument")
        caller = _text(scope.key_id)
        if not -WINDOW_S <= now_s - signed_at <= MAX_EXPIRES_S:
            raise refused(
                "AccessDenied", "The form was signed more than a week ago, or for a time that has not come yet.", caller=caller
            )
        key = self._keys.day_key(scope.key_id, scope.date, scope.region)
        if key is None:
            raise _unknown_key(caller)
        if not compare_digest(signature(key, claim.policy), claim.signature):
            raise refused("SignatureDoesNotMatch", _MISMATCH, caller=caller)
        return _identity(scope.key_id, UNSIGNED_PAYLOAD)

    def _by_header(self, request: Request, authorization: bytes, now_s: float) -> Identity:
        before, _, claimed = authorization.rpartition(b"Signature=")
        scope = _read_authorization(before)
        if scope is None or len(claimed) != 64:
            raise _malformed_header(authorization)
        headers = request.headers
        stamp = headers.get(b"x-amz-date") or _date_header(headers)
        signed_at = _stamp_s(stamp)
        if signed_at is None:
            raise refused("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
        self._check_scope(scope, stamp, "AuthorizationHeaderMalformed")
        if not -WINDOW_S <= now_s - signed_at <= WINDOW_S:
            raise refused(
                "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.",
                caller=_text(scope.key_id),
            )  # fmt: skip
        content = headers.get(b"x-amz-content-sha256")
        if content is None or not (content in _PLAIN_CONTENT or _CONTENT_SHA.fullmatch(content)):
            raise refused("InvalidRequest", "Missing or malformed header for this request: x-amz-content-sha256")
        signed = scope.signed
        lines = _signed_lines(request, scope, "AuthorizationHeaderMalformed")
        query = canonical_query(split_query(request.query)) if request.query else b""
        canonical = b"\n".join((request.method, canonical_path_kept(request.path), query, lines, signed, content))
        identity = self._compare(scope, stamp, canonical, claimed, content)
        if not request.query:
            self._remember(before, scope, headers, identity)
        return identity

    def _by_query(self, request: Request, pairs: list[Pair], now_s: float) -> Identity:
        given = _presigned_values(pairs)
        if given[b"X-Amz-Algorithm"] != ALGORITHM:
            raise _bad_query('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
        match = _CREDENTIAL.fullmatch(given[b"X-Amz-Credential"])
        if match is None:
            raise _bad_query("X-Amz-Credential is not <key>/<date>/<region>/s3/aws4_request")
        signed = given[b"X-Amz-SignedHeaders"]
        scope = _scope(match, signed)
        stamp = given[b"X-Amz-Date"]
        signed_at = _stamp_s(stamp)
        if signed_at is None:
            raise _bad_query("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        self._check_scope(scope, stamp, "AuthorizationQueryParametersError")
        _check_expiry(given[b"X-Amz-Expires"], signed_at, now_s, _text(scope.key_id))
        claimed = given[b"X-Amz-Signature"]
        if not _SIGNATURE.fullmatch(claimed):
            raise refused("SignatureDoesNotMatch", _MISMATCH, caller=_text(scope.key_id))
        lines = _signed_lines(request, scope, "AuthorizationQueryParametersError")
        content = request.headers.get(b"x-amz-content-sha256", UNSIGNED_PAYLOAD)
        if content.startswith(b"STREAMING-"):
            raise refused("AccessDenied", "A presigned URL cannot be used with a streamed body.", caller=_text(scope.key_id))
        query = canonical_query([pair for pair in pairs if pair[0] != b"X-Amz-Signature"])
        canonical = b"\n".join((request.method, canonical_path_kept(request.path), query, lines, signed, content))
        return self._compare(scope, stamp, canonical, claimed, content)

    def _check_scope(self, scope: _Scope, stamp: bytes, code: str) -> None:
        if scope.date != stamp[:8]:
            raise refused(code, "The date in the credential scope does not match the date of the request.")
        if scope.service != b"s3" or scope.terminator != b"aws4_request":
            raise refused(code, 'The credential scope must end with "s3/aws4_request".')
        if scope.region != self._region:
            expected = self._region.decode()
            raise refused(
                code, f"The region {_text(scope.region)!r} is wrong; expecting {expected!r}", detail=(("Region", expected),)
            )

    def _compare(self, scope: _Scope, stamp: bytes, canonical: bytes, claimed: bytes, content: bytes) -> Identity:
        key = self._keys.day_key(scope.key_id, scope.date, scope.region)
        if key is None:
            raise _unknown_key(_text(scope.key_id))
        text = b"AWS4-HMAC-SHA256\n%b\n%b/%b/s3/aws4_request\n%b" % (
            stamp, scope.date, scope.region, sha256(canonical).hexdigest().encode(),
        )  # fmt: skip
        if not compare_digest(signature(key, text), claimed):
            raise refused("SignatureDoesNotMatch", _MISMATCH, caller=_text(scope.key_id))
        if content.startswith(b"STREAMING-AWS4-"):
            seed = ChunkSeed(key, stamp, credential_scope(scope.date, scope.region), claimed, _text(scope.key_id))
            return Identity(Caller(scope.key_id.decode()), content, seed)
        return _identity(scope.key_id, content)


@lru_cache(maxsize=4096)
def _identity(key_id: bytes, content: bytes) -> Identity:
    return Identity(Caller(key_id.decode()), content)


@lru_cache(maxsize=1024)
def _read_authorization(before: bytes) -> _Scope | None:
    """The part of an `Authorization` that stays the same between a client's requests; None when malformed."""
    match = _AUTHORIZATION.fullmatch(before)
    return None if match is None else _scope(match, match[6])


def _scope(match: re.Match[bytes], signed: bytes) -> _Scope:
    names, members = _signed_names(signed)
    return _Scope(match[1], match[2], match[3], match[4], match[5], signed, names, members)


canonical_path_kept = lru_cache(maxsize=2048)(canonical_path)


def _credential_pairs(query: bytes) -> list[Pair] | None:
    """The query when it tries to authenticate, in whatever spelling: half a credential is a refusal, never nobody."""
    lowered = query.lower()
    if b"amz" not in lowered and b"signature" not in lowered and b"awsaccess" not in lowered and b"%" not in lowered:
        return None
    pairs = split_query(query)
    return None if {name.lower() for name, _ in pairs}.isdisjoint(_CREDENTIAL_NAMES) else pairs


_MISMATCH = "The request signature we calculated does not match the signature you provided. Check your key and signing method."


def _text(raw: bytes) -> str:
    return raw[:128].decode("utf-8", "replace")


def _bad_query(message: str) -> S3Error:
    return refused("AuthorizationQueryParametersError", message)


def _unknown_key(caller: str) -> S3Error:
    return refused("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", caller=caller)


def _malformed_header(authorization: bytes) -> S3Error:
    if not authorization.startswith(b"AWS4-"):
        return refused("InvalidRequest", "The authorization mechanism you have provided is not supported. Use AWS4-HMAC-SHA256.")
    return refused(
        "AuthorizationHeaderMalformed",
        "The authorization header is not AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=… as it should be.",
    )


_CREDENTIAL_NAMES = frozenset(
    (b"x-amz-algorithm", b"x-amz-credential", b"x-amz-signature", b"x-amz-signedheaders", b"x-amz-expires", b"x-amz-date",
     b"x-amz-security-token", b"awsaccesskeyid", b"signature")
)  # fmt: skip


def _presigned_values(pairs: list[Pair]) -> dict[bytes, bytes]:
    given: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name.lower() in _CREDENTIAL_NAMES:
            if name in given:
                raise _bad_query(f"{_text(name)} is given more than once")
            given[name] = value
    if b"Signature" in given or b"AWSAccessKeyId" in given:
        raise refused("InvalidRequest", "The authorization mechanism you have provided is not supported. Use AWS4-HMAC-SHA256.")
    if b"X-Amz-Security-Token" in given:
        raise refused("InvalidToken", "The provided token is malformed or otherwise invalid.")
    if any(name not in given for name in _QUERY_NAMES):
        raise _bad_query(
            "Query-string authentication version 4 requires all six X-Amz-… parameters: "
            + ", ".join(name.decode() for name in _QUERY_NAMES)
        )
    return given


def _check_expiry(expires: bytes, signed_at: int, now_s: float, caller: str) -> None:
    if not _EXPIRES.fullmatch(expires):
        raise _bad_query("X-Amz-Expires should be a number of seconds that is not negative")
    if not 1 <= int(expires) <= MAX_EXPIRES_S:
        raise _bad_query(f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_S} seconds (a week)")
    if signed_at - now_s > WINDOW_S:
        raise refused("RequestTimeTooSkewed", "The request is signed for a time that has not come yet.", caller=caller)
    if now_s > signed_at + int(expires):
        raise refused("AccessDenied", "Request has expired", caller=caller)


def _signed_lines(request: Request, scope: _Scope, code: str) -> bytes:
    """The canonical header lines. Raises unless the list is well-formed and covers what must be signed."""
    names, members = scope.names, scope.members
    if not names:
        raise refused(code, "SignedHeaders must be lower case, sorted, without repeats, and not empty")
    if b"host" not in members:
        raise refused("AccessDenied", "The host header must be signed")
    headers = request.headers
    for name in headers:
        if name not in members and name.startswith(b"x-amz-"):
            raise refused("AccessDenied", f"There were headers present in the request which were not signed: {_text(name)}")
    if b"x-amz-security-token" in headers:
        raise refused("InvalidToken", "The provided token is malformed or otherwise invalid.")
    try:
        lines = b"".join([b"%b:%b\n" % (name, headers[name]) for name in names])
        if b"  " in lines or b" \n" in lines or b"\t" in lines:
            lines = b"".join([b"%b:%b\n" % (name, canonical_value(headers[name])) for name in names])
    except KeyError as error:
        raise refused("AccessDenied", f"A signed header is missing from the request: {_text(error.args[0])}") from None
    return lines


def _signed_names(signed: bytes) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    """The names, or none when the list is malformed."""
    if not _HEADER_NAMES.fullmatch(signed):
        return (), frozenset()
    names = tuple(signed.split(b";"))
    if list(names) != sorted(set(names)):
        return (), frozenset()
    return names, frozenset(names)


def _date_header(headers: dict[bytes, bytes]) -> bytes:
    """Some clients sign the `date` header instead of `x-amz-date`, in the same form or in HTTP's own."""
    date = headers.get(b"date", b"")
    seconds = parse_date(_ZERO_OFFSET.sub(b" GMT", date), 0.0)
    return date if seconds is None else time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds)).encode()


@lru_cache(maxsize=1024)
def _stamp_s(stamp: bytes) -> int | None:
    """Seconds since 1970 UTC of `20260131T235959Z`, or None."""
    if not _STAMP.fullmatch(stamp):
        return None
    try:
        moment = datetime(
            int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8]), int(stamp[9:11]), int(stamp[11:13]), int(stamp[13:15]), tzinfo=UTC
        )
    except ValueError:
        return None
    return int(moment.timestamp())
