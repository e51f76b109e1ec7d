"""Signed requests to an S3 endpoint, and what its refusals mean."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import (
    AccessDenied,
    BucketExists,
    BucketNotEmpty,
    ConditionFailed,
    Conflict,
    CorruptData,
    HeadraceError,
    InvalidKey,
    InvalidPart,
    InvalidRange,
    Lost,
    NoSpace,
    NoSuchUpload,
    NotFound,
    PartTooSmall,
    SettingsError,
    Throttled,
    Unavailable,
    Unsupported,
)
from headrace.model.objects import SCRATCH_LOST
from headrace.model.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    SigningIdentity,
    UnsignedRequest,
    canonical_query,
    quote_path,
    sign_headers,
)
from headrace.stores.credentials import CredentialsProvider
from headrace.stores.http import Http, HttpResponse, Redirected, range_size, retry_after_s, status_error
from headrace.stores.s3_seaweedfs import check_kept, is_clean_path, is_seaweedfs
from headrace.stores.s3_xml import S3Error, parse_error
from headrace.stores.sending import Sending

Headers = Sequence[tuple[str, str]]

_THROTTLES = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded"}
)
_UNAVAILABLE = frozenset({"RequestTimeout", "OperationAborted", "InternalError", "ServiceUnavailable"})
_DENIED = frozenset(
    {
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
        "InvalidAccessKeyId",
        "AuthorizationHeaderMalformed",
    }
)
_BAD_KEY = frozenset({"KeyTooLongError", "KeyTooLong", "InvalidObjectName", "InvalidURI", "XMinioInvalidObjectName"})
_ABSENT = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NotFound", "NoSuchTagSet", "NoSuchUpload"})
_READS = frozenset({"GET", "HEAD"})
_KINDS: dict[str, type[HeadraceError]] = {
    "NoSuchUpload": NoSuchUpload,
    "InvalidPart": InvalidPart,
    "InvalidPartOrder": InvalidPart,
    "EntityTooSmall": PartTooSmall,
    "EntityTooLarge": Unsupported,
    "BadDigest": CorruptData,
    "InvalidDigest": CorruptData,
    "XAmzContentSHA256Mismatch": CorruptData,
    "XAmzContentChecksumMismatch": CorruptData,
    "ConditionalRequestConflict": Conflict,
    "QuotaExceeded": NoSpace,
    "XMinioStorageFull": NoSpace,
    "InsufficientCapacity": NoSpace,
    "InsufficientStorage": NoSpace,
    "ScratchLost": Lost,
    "BucketAlreadyExists": BucketExists,
    "BucketAlreadyOwnedByYou": BucketExists,
    "BucketNotEmpty": BucketNotEmpty,
    "InvalidBucketName": InvalidKey,
}
"""What codes mean that only writes are refused with, whatever the status."""


_BUCKET_SEEN_S = 30.0
_MAX_BUCKETS_SEEN = 1024


class S3Settings(msgspec.Struct, frozen=True):
    """Where a bucket lies. Without an endpoint it is AWS, spoken to in virtual-host style; else path style."""

    bucket: str = ""
    endpoint: str = ""
    region: str = "us-east-1"


class S3Requests:
    """Sends requests about one bucket (or, without one, about the account) and raises what they were refused for."""

    def __init__(self, settings: S3Settings, credentials: CredentialsProvider, http: Http, clock: Clock) -> None:
        self.settings = settings
        self._credentials = credentials
        self._http = http
        self._clock = clock
        self._origin, self._base = _place(settings)
        self._host = urlsplit(self._origin).netloc
        self._identity: tuple[object, SigningIdentity] | None = None
        self._is_seaweedfs: bool | None = None
        self._buckets_seen: dict[str, float] = {}

    @property
    def clock(self) -> Clock:
        """What the signatures are dated by."""
        return self._clock

    async def send(
        self,
        method: str,
        key: str,
        *,
        query: Sequence[tuple[bytes, bytes]] = (),
        headers: Headers = (),
        body: bytes | Sending = b"",
    ) -> HttpResponse:
        """The answer to a request, whose status is 200 to 299. `key` is empty for the bucket itself.

        Bytes at hand are signed with the request, so that the store proves them; a `Sending` is not.
        """
        path = self._base + quote_path(key.encode())
        if isinstance(body, Sending):
            digest = UNSIGNED_PAYLOAD
        else:
            digest = hashlib.sha256(body).hexdigest().encode() if body else EMPTY_SHA256
        signed = await self._signed(UnsignedRequest(method.encode(), path, tuple(query), (), digest), headers)
        target = self._origin + path.decode()
        if query:
            target += "?" + canonical_query(query).decode()
        try:
            response = await self._http.request(method, target, headers=signed, body=body, path=key or self.settings.bucket)
        except Redirected as error:
            raise self._redirected(error) from error
        if self._is_seaweedfs is None:
            self._is_seaweedfs = is_seaweedfs(response.headers)
        if 200 <= response.status < 300:
            return response
        raise await self._refused(method, response)

    async def read_whole(self, response: HttpResponse, limit_bytes: int = 1 << 20) -> bytes:
        """The body of a 200 that is begun before its outcome is known. Raises what it says was refused."""
        body = await response.read(limit_bytes)
        found = parse_error(body)
        if found.code:
            raise self._error(response, found, status=500, is_write=True)
        return body

    async def on_seaweedfs(self) -> bool:
        """Whether the store is a SeaweedFS, which must be known before it is given anything."""
        if self._is_seaweedfs is None:
            try:
                (await self.send("HEAD", "")).close()
            except Unavailable:
                raise
            except HeadraceError:
                return bool(self._is_seaweedfs)  # it answered, which is enough
        return bool(self._is_seaweedfs)

    async def check_kept(self, key: str, size: int) -> None:
        """Raises `InvalidKey` for a key that a SeaweedFS would fold into another, `NotFound` for a bucket that it would make.

        A bucket that others remove is missed within half a minute.
        """
        if not await self.on_seaweedfs():
            return
        check_kept(key, size)
        now = self._clock.monotonic()
        if now >= self._buckets_seen.get(self.settings.bucket, -_BUCKET_SEEN_S) + _BUCKET_SEEN_S:
            (await self.send("HEAD", "")).close()
            if len(self._buckets_seen) > _MAX_BUCKETS_SEEN:
                self._buckets_seen.clear()
            self._buckets_seen[self.settings.bucket] = now

    def forget_bucket(self) -> None:
        """The bucket was removed by us."""
        self._buckets_seen.pop(self.settings.bucket, None)

    def for_bucket(self, bucket: str) -> S3Requests:
        """The same account, connections and credentials for requests about `bucket`."""
        other = S3Requests(msgspec.structs.replace(self.settings, bucket=bucket), self._credentials, self._http, self._clock)
        other._is_seaweedfs, other._buckets_seen = self._is_seaweedfs, self._buckets_seen
        return other

    async def close(self) -> None:
        """Free connections. May be called more than once."""
        await self._http.close()
        await self._credentials.close()

    async def _signed(self, request: UnsignedRequest, headers: Headers) -> list[tuple[str, str]]:
        sent = [("host", self._host), *headers]
        credentials = await self._credentials.get()
        if credentials is None:
            return sent
        if self._identity is None or self._identity[0] is not credentials:
            identity = SigningIdentity(
                credentials.key_id, credentials.secret, self.settings.region, session_token=credentials.session_token
            )
            self._identity = (credentials, identity)
        encoded = tuple([(name.encode(), value.encode()) for name, value in sent])
        unsigned = UnsignedRequest(request.method, request.path, request.query, encoded, request.payload_hash)
        sent.extend(sign_headers(unsigned, self._identity[1], self._clock.time()))
        return sent

    async def _refused(self, method: str, response: HttpResponse) -> HeadraceError:
        body = b"" if method == "HEAD" else await _body(response)
        response.close()
        found = parse_error(body)
        if response.status == 410 and response.headers.get("x-amz-storage-class") == SCRATCH_LOST:
            return Lost(
                f"s3 {response.path!r} at {self._host} was scratch and is lost: make it again, or remove it", path=response.path
            )
        if response.status in (404, 410) and _is_foreign(found, body, response):
            message = f"{response.url} answered 404, but not as S3 does: is the endpoint right?"
            return Unavailable(message, path=response.path)
        return self._error(response, found, status=response.status, is_write=method not in _READS)

    def _error(self, response: HttpResponse, found: S3Error, *, status: int, is_write: bool) -> HeadraceError:
        path = response.path
        what = path if path == self.settings.bucket else f"{self.settings.bucket}/{path}".lstrip("/")
        reason = f"{found.code}: {found.message}".strip(": ") or f"status {status}"
        message = f"s3 {what!r} at {self._host}: {reason}"
        wish_s = retry_after_s(response.headers, self._clock.time())
        kind = ConditionFailed if is_write and (status == 412 or found.code == "PreconditionFailed") else _KINDS.get(found.code)
        if kind is not None:
            return kind(message, path=path)
        if found.code in _THROTTLES or status == 429:
            return Throttled(message, path=path, retry_after_s=wish_s)
        if found.code in _UNAVAILABLE or status == 409:
            return Unavailable(message, path=path, retry_after_s=wish_s)
        if found.code == "NoSuchBucket":
            return NotFound(f"s3 bucket {self.settings.bucket!r} does not exist at {self._host}", path=path)
        region = found.region or response.headers.get("x-amz-bucket-region", "")
        if status in (400, 403) and region and region != self.settings.region:
            return SettingsError(f'{message}; the bucket is in another region: set region = "{region}"', path=path)
        if found.code in _DENIED or status in (401, 403):
            return AccessDenied(f"{message}; check the mount's credentials and their rights", path=path)
        return self._error_of_key(response, found, status, message)

    def _error_of_key(self, response: HttpResponse, found: S3Error, status: int, message: str) -> HeadraceError:
        path = response.path
        # Some services refuse keys that are no clean paths without saying so, and HEAD never says why.
        if found.code in _BAD_KEY or (status == 400 and not is_clean_path(path)):
            return InvalidKey(message, path=path)
        if status == 416:
            size = range_size(response.headers)
            return InvalidRange(message, path=path, size=found.actual_size or 0 if size is None else size)
        return status_error(status, message, path=path, headers=response.headers, now_s=self._clock.time())

    def _redirected(self, error: Redirected) -> HeadraceError:
        region = error.headers.get("x-amz-bucket-region", "")
        if region and region != self.settings.region:
            message = f"s3 bucket {self.settings.bucket!r} is in another region: set region = {region!r} on the mount"
            return SettingsError(message, path=error.path)
        return error


def _place(settings: S3Settings) -> tuple[str, bytes]:
    """Origin and encoded path before the key. Buckets with a dot match no wildcard certificate: path style."""
    bucket = settings.bucket
    if not settings.endpoint:
        domain = f"s3.{settings.region}.amazonaws.com" + (".cn" if settings.region.startswith("cn-") else "")
        if bucket and "." not in bucket:
            return f"https://{bucket}.{domain}", b"/"
        return f"https://{domain}", f"/{bucket}/".encode() if bucket else b"/"
    scheme, _, host = settings.endpoint.rstrip("/").partition("://")
    default_port = ":443" if scheme == "https" else ":80"
    origin = f"{scheme}://{host.lower().removesuffix(default_port)}"
    return origin, b"/" + quote_path(bucket.encode()) + b"/" if bucket else b"/"


async def _body(response: HttpResponse) -> bytes:
    """The explanation of a refusal. One that cannot be read explains nothing: the status stands."""
    try:
        return await response.read(256 * 1024)
    except HeadraceError:
        return b""


def _is_foreign(found: S3Error, body: bytes, response: HttpResponse) -> bool:
    """Whether a 404 was not said by an S3 service: nothing may then be concluded about the key."""
    if body.strip():
        return found.code not in _ABSENT
    return "text/html" in response.headers.get("content-type", "")
