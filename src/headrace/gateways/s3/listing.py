"""ListObjects, versions 1 and 2. Memory is bounded by one page of at most 1,000 entries."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable

import msgspec

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.buckets import require_bucket
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.routes import Operation
from headrace.gateways.s3.target import Target
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape, owner_element, timestamp, url_encode
from headrace.model.errors import NotFound
from headrace.model.objects import Entry, Listing, ObjectInfo
from headrace.policy.rules import Action

_MAX_KEYS = 1000
_FAR_PAGES = 1000


class ListWish(msgspec.Struct, frozen=True):
    """What a listing asks for, both versions alike."""

    prefix: str
    delimiter: str
    limit: int
    after: str
    encode: bool
    owner: bool


def read_wish(target: Target, *, v2: bool) -> ListWish:
    """Raises `S3Error` for parameters that mean nothing."""
    encoding = target.get("encoding-type")
    shown_as(encoding)
    if v2:
        if target.get("list-type") != "2":
            raise S3Error("InvalidArgument", "list-type is 2 or absent")
        token = target.get("continuation-token")
        after = decode_token(token) if token else target.get("start-after")
    else:
        after = target.get("marker")
    return ListWish(
        prefix=target.get("prefix"),
        delimiter=target.get("delimiter"),
        limit=read_limit(target, "max-keys"),
        after=after,
        encode=encoding == "url",
        owner=not v2 or target.get("fetch-owner").lower() == "true",
    )


def read_limit(target: Target, name: str) -> int:
    """How many entries at most; more than S3 gives are never given. Raises `S3Error`."""
    text = target.get(name)
    if not text:
        return _MAX_KEYS
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > 2**31 - 1:
        raise S3Error("InvalidArgument", f"Argument {name} must be an integer between 0 and 2147483647")
    return min(int(text), _MAX_KEYS)


def shown_as(encoding: str) -> Callable[[str], str]:
    """How keys are written: percent-encoded, or as they are. Raises `S3Error` for any other `encoding-type`."""
    if encoding not in ("", "url"):
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    return (lambda text: escape(url_encode(text))) if encoding else escape


def encode_token(after: str) -> str:
    """A continuation token: opaque, and recognised when it comes back changed."""
    raw = after.encode()
    return base64.urlsafe_b64encode(hashlib.blake2b(raw, digest_size=4).digest() + raw).decode()


def decode_token(token: str) -> str:
    """Raises `S3Error` for a token that was not made by `encode_token`."""
    try:
        packed = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if hashlib.blake2b(packed[4:], digest_size=4).digest() == packed[:4]:
            return packed[4:].decode()
    except (binascii.Error, UnicodeError):
        pass
    raise S3Error("InvalidArgument", "The continuation token provided is incorrect")


async def list_objects(call: Call) -> Response:
    """One page of a listing."""
    v2 = call.route.operation is Operation.LIST_OBJECTS_V2
    wish = read_wish(call.target, v2=v2)
    page = await list_page(call, wish)
    shown = shown_as(call.target.get("encoding-type"))
    head = _head_v2(call, wish, page, shown) if v2 else _head_v1(call, wish, page, shown)
    entries = "".join([_entry(entry, shown, owner_element(call.owner_id) if wish.owner else "") for entry in page.entries])
    return xml_response(f"{DECLARATION}<ListBucketResult {NAMESPACE}>{head}{entries}</ListBucketResult>")


async def list_page(call: Call, wish: ListWish) -> Listing:
    """The entries that the caller may see; asks on when the policy has hidden some."""
    if wish.limit == 0:
        await require_bucket(call)
        return Listing(())
    root = f"/{call.target.bucket}"
    filtered = call.policy.denies_below(call.identity.caller, Action.LIST, f"{root}/{wish.prefix}")
    entries: list[Entry] = []
    after: str | None = wish.after
    for _ in range(_FAR_PAGES):
        assert after is not None  # noqa: S101  the loop ends with the listing
        try:
            page = await call.namespace.list(
                root, wish.prefix, delimiter=wish.delimiter, after=after, limit=wish.limit - len(entries)
            )
        except NotFound:
            raise S3Error("NoSuchBucket", "The specified bucket does not exist.") from None
        after = page.after
        if not filtered:
            break
        entries.extend(entry for entry in page.entries if call.may(Action.LIST, f"{root}/{entry.key}"))
        if after is None or len(entries) >= wish.limit:
            break
    if not filtered:
        entries = list(page.entries)
    if not entries and not wish.after and after is None:
        await require_bucket(call)
    return Listing(tuple(entries), after)


def _common(call: Call, wish: ListWish, shown: Callable[[str], str], truncated: bool) -> str:
    return (
        f"<Name>{escape(call.target.bucket)}</Name><Prefix>{shown(wish.prefix)}</Prefix>"
        + (f"<Delimiter>{shown(wish.delimiter)}</Delimiter>" if wish.delimiter else "")
        + f"<MaxKeys>{wish.limit}</MaxKeys>"
        + ("<EncodingType>url</EncodingType>" if wish.encode else "")
        + f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>"
    )


def _head_v2(call: Call, wish: ListWish, page: Listing, shown: Callable[[str], str]) -> str:
    token, start = call.target.get("continuation-token"), call.target.get("start-after")
    return (
        _common(call, wish, shown, page.after is not None)
        + f"<KeyCount>{len(page.entries)}</KeyCount>"
        + (f"<ContinuationToken>{escape(token)}</ContinuationToken>" if call.target.has("continuation-token") else "")
        + (f"<NextContinuationToken>{encode_token(page.after)}</NextContinuationToken>" if page.after is not None else "")
        + (f"<StartAfter>{shown(start)}</StartAfter>" if start else "")
    )


def _head_v1(call: Call, wish: ListWish, page: Listing, shown: Callable[[str], str]) -> str:
    return (
        _common(call, wish, shown, page.after is not None)
        + f"<Marker>{shown(wish.after)}</Marker>"
        + (f"<NextMarker>{shown(page.after)}</NextMarker>" if page.after is not None else "")
    )


def _entry(entry: Entry, shown: Callable[[str], str], owner: str) -> str:
    if not isinstance(entry, ObjectInfo):
        return f"<CommonPrefixes><Prefix>{shown(entry.key)}</Prefix></CommonPrefixes>"
    etag = f"<ETag>&quot;{escape(entry.etag)}&quot;</ETag>" if entry.etag else ""
    return (
        f"<Contents><Key>{shown(entry.key)}</Key><LastModified>{timestamp(int(entry.modified_s))}</LastModified>{etag}"
        f"<Size>{entry.size}</Size>{owner}<StorageClass>{entry.storage_class or 'STANDARD'}</StorageClass></Contents>"
    )
