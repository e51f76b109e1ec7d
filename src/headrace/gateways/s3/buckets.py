"""Buckets: listed, described, made and removed."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress

from headrace.gateways.http.messages import Response, render_fields
from headrace.gateways.s3.accepted import check_acl, not_honoured
from headrace.gateways.s3.context import OWNER_ID, Call, xml_response
from headrace.gateways.s3.errors import S3Error, refused, translate
from headrace.gateways.s3.grants import bucket_acl, new_acl, read_acl
from headrace.gateways.s3.incoming import buffered
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape, owner_element, timestamp
from headrace.gateways.s3.xml_in import Shape, read_document
from headrace.model.errors import AccessDenied, BucketExists, BucketNotEmpty, InvalidKey, NoSuchUpload
from headrace.model.uploads import Upload
from headrace.namespace.buckets import BucketInfo
from headrace.policy.rules import Action

_MAX_LISTED = 10_000
_MAX_DOCUMENT_BYTES = 64 * 1024
_SHAPE = Shape("CreateBucketConfiguration", frozenset(("LocationConstraint",)))
_FIRST_REGION = "us-east-1"
"""Where making a bucket once more is no error with S3, and where no place is named."""
_TAKEN = "The requested bucket name is not available. Please select a different name and try again."
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


async def list_buckets(call: Call) -> Response:
    """The buckets that the caller may list; all of them, or a page."""
    target = call.target
    prefix, limit, after = (
        target.get("prefix"),
        _limit(target.get("max-buckets")),
        _decode_token(target.get("continuation-token")),
    )
    found = await call.buckets.list() if target.get("bucket-region", call.region) == call.region else ()
    shown = [bucket for bucket in found if bucket.name.startswith(prefix) and bucket.name > after and _is_shown(call, bucket)]
    page = shown[:limit]
    owner = call.identity.caller.key_id if call.keeps_acls("/") else OWNER_ID
    inner = "".join(
        f"<Bucket><Name>{escape(bucket.name)}</Name><CreationDate>{timestamp(int(bucket.created_s))}</CreationDate></Bucket>"
        for bucket in page
    )
    following = f"<ContinuationToken>{_encode_token(page[-1].name)}</ContinuationToken>" if len(shown) > len(page) else ""
    return xml_response(
        f"{DECLARATION}<ListAllMyBucketsResult {NAMESPACE}>{owner_element(owner)}<Buckets>{inner}</Buckets>{following}"
        + (f"<Prefix>{escape(prefix)}</Prefix>" if prefix else "")
        + "</ListAllMyBucketsResult>"
    )


def _is_shown(call: Call, bucket: BucketInfo) -> bool:
    path = f"/{bucket.name}"
    return call.may(Action.LIST, path) and (
        not call.keeps_acls(path) or read_acl(bucket.acl, path).owned_by(call.identity.caller)
    )


def _limit(text: str) -> int:
    if not text:
        return _MAX_LISTED
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= _MAX_LISTED:
        raise S3Error("InvalidArgument", f"Argument max-buckets must be an integer between 1 and {_MAX_LISTED}")
    return int(text[:9])


def _encode_token(name: str) -> str:
    return base64.urlsafe_b64encode(b"bucket:" + name.encode()).decode()


def _decode_token(token: str) -> str:
    if not token:
        return ""
    try:
        kind, _, name = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode().partition(":")
    except (binascii.Error, UnicodeError):
        kind = name = ""
    if kind != "bucket" or not name:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect")
    return name


async def create_bucket(call: Call) -> Response:
    """A new bucket of the account that is mounted at `/`, where its mount allows that."""
    headers, name, caller = call.request.headers, call.target.bucket, call.identity.caller.key_id
    acl = new_acl(call, caller, caller) if call.keeps_acls(call.path) else None
    if acl is None:
        check_acl(headers, public=call.public)
    if headers.get(b"x-amz-bucket-object-lock-enabled", b"false").strip().lower() != b"false":
        raise not_honoured(b"x-amz-bucket-object-lock-enabled")
    ownership = b"BucketOwnerEnforced" if acl is None else b"ObjectWriter"
    if headers.get(b"x-amz-object-ownership", ownership).strip() != ownership:
        raise not_honoured(b"x-amz-object-ownership")
    document = await buffered(call, _MAX_DOCUMENT_BYTES)
    place = read_document(document, _SHAPE).leaves.get("LocationConstraint", "") if document else ""
    if place not in ("", call.region):
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {place[:100]} location constraint is incompatible for the region specific endpoint this request was sent to.",
        )
    if not valid_bucket_name(name):
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.", detail=(("BucketName", name),))
    if call.buckets.is_mounted(name):
        raise translate(BucketExists(f"/{name} is there: a mount makes it", path=f"/{name}"))
    _check_account(call)
    try:
        await call.buckets.create(name)
    except BucketExists:
        if acl is not None and (await bucket_acl(call, name)).owner != acl.owner:
            raise S3Error("BucketAlreadyExists", _TAKEN) from None
        if call.region != _FIRST_REGION:
            raise
    except InvalidKey as error:
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.", detail=(("BucketName", name),)) from error
    if acl is not None:
        await call.buckets.set_acl(name, acl.encoded())
    return Response(200, render_fields((("location", f"/{name}"),)))


async def delete_bucket(call: Call) -> Response:
    """The bucket is gone; it must be empty."""
    await buffered(call, 0)
    await require_bucket(call)
    _check_account(call)
    try:
        await call.buckets.delete(call.target.bucket)
    except BucketNotEmpty:
        if (await call.namespace.list(call.path, limit=1)).entries:
            raise
        await _give_up_uploads(call)
        await call.buckets.delete(call.target.bucket)
    return Response(204)


async def _give_up_uploads(call: Call) -> None:
    """Unfinished uploads go with a bucket that holds no object, as they do with S3."""
    after: Upload | None = None
    while True:
        page = await call.uploads.list(call.path + "/", after=after)
        for upload in page.uploads:
            with suppress(NoSuchUpload):
                await call.uploads.abort(upload)
        if page.after is None:
            return
        after = page.after


def valid_bucket_name(name: str) -> bool:
    """Whether S3 lets a bucket be called so."""
    return _NAME.fullmatch(name) is not None and _ADDRESS.fullmatch(name) is None and not name.startswith("xn--")


def _check_account(call: Call) -> None:
    """Raises `S3Error` with the reason when buckets are not made or removed here."""
    try:
        call.buckets.account(call.target.bucket)
    except AccessDenied as error:
        raise refused("AccessDenied", f"Access Denied: {error}", caller=call.identity.caller.key_id) from error


async def head_bucket(call: Call) -> Response:
    await require_bucket(call)
    return Response(200, render_fields((("x-amz-bucket-region", call.region), ("content-type", "application/xml"))), length=0)


async def get_bucket_location(call: Call) -> Response:
    await require_bucket(call)
    region = "" if call.region == _FIRST_REGION else escape(call.region)
    return xml_response(f"{DECLARATION}<LocationConstraint {NAMESPACE}>{region}</LocationConstraint>")


async def get_bucket_versioning(call: Call) -> Response:
    """Never switched on: one version of each object is shown."""
    await require_bucket(call)
    return xml_response(f"{DECLARATION}<VersioningConfiguration {NAMESPACE}/>")


async def require_bucket(call: Call) -> None:
    """Raises `S3Error` NoSuchBucket."""
    if not await call.buckets.has(call.target.bucket):
        raise S3Error("NoSuchBucket", "The specified bucket does not exist.")
