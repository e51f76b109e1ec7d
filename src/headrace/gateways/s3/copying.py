"""CopyObject, and the reading of `x-amz-copy-source` that UploadPartCopy shares."""

from __future__ import annotations

import re

import msgspec

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.accepted import EXPECTED_SOURCE_OWNER, check_expected_owner
from headrace.gateways.s3.answers import checksum_elements, patiently
from headrace.gateways.s3.attributes import read_attributes, read_condition, text
from headrace.gateways.s3.checksums import upload_checksum
from headrace.gateways.s3.conditions import NAMES, Verdict, judge
from headrace.gateways.s3.context import OWNER_ID, Call, missing_code
from headrace.gateways.s3.errors import S3Error, translate
from headrace.gateways.s3.grants import bucket_acl, require_on_object, with_acl
from headrace.gateways.s3.incoming import buffered
from headrace.gateways.s3.put import MAX_PUT_BYTES
from headrace.gateways.s3.summing import SummedBody
from headrace.gateways.s3.target import check_names, decode_path
from headrace.gateways.s3.xml import NAMESPACE, escape, timestamp
from headrace.model.errors import NotFound
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Attributes, Pairs, attributes_of
from headrace.policy.acls import Permission
from headrace.policy.rules import Action

_VERSION = re.compile(rb"\?versionId=([^?&]*)\Z")
_DIRECTIVES = ("COPY", "REPLACE")


class CopySource(msgspec.Struct, frozen=True):
    """What `x-amz-copy-source` names: a path of the namespace, and the version of what is there (empty: the current one)."""

    path: str
    version_id: str = ""


def read_source(header: bytes) -> CopySource:
    """Decoded once, like a request's path. Raises `S3Error` for what names no one object."""
    raw = header.strip(b" \t")
    match = _VERSION.search(raw)
    version_id = decode_path(match[1]) if match is not None else ""
    named = decode_path(raw[: match.start()] if match is not None else raw).removeprefix("/")
    bucket, _, key = named.partition("/")
    if not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    check_names(bucket, key)
    return CopySource(f"/{bucket}/{key}", "" if version_id == "null" else version_id)


async def find_source(call: Call) -> ObjectInfo:
    """The object to copy, which the caller may read, in the very version whose bytes will be copied.

    Raises `S3Error` when there is none, when the policy says no, and when a condition on it does not hold.
    """
    headers = call.request.headers
    source = read_source(headers[b"x-amz-copy-source"])
    call.require(Action.READ, source.path)
    await require_on_object(call, source.path, Permission.READ)
    await _check_source_owner(call, source.path)
    try:
        info = await call.namespace.info(source.path)
    except NotFound as error:
        raise translate(error, missing=await missing_code(call.namespace, source.path)) from error
    if source.version_id and source.version_id != info.version_id:
        raise S3Error("NoSuchVersion", "The specified version does not exist.")
    conditions = {name: headers[b"x-amz-copy-source-" + name] for name in NAMES if b"x-amz-copy-source-" + name in headers}
    if judge(conditions, info, call.now_s) is not Verdict.GO:
        raise S3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    return info


async def _check_source_owner(call: Call, path: str) -> None:
    if EXPECTED_SOURCE_OWNER in call.request.headers:
        owner = (await bucket_acl(call, path[1:].partition("/")[0])).owner if call.keeps_acls(path) else ""
        check_expected_owner(call.request.headers, owner or OWNER_ID, EXPECTED_SOURCE_OWNER)


async def copy_object(call: Call) -> Response:
    """Another object with the source's bytes; its attributes too, unless the directives say otherwise."""
    await buffered(call, 0)
    headers = call.request.headers
    replace_metadata = _replaces(call, b"x-amz-metadata-directive")
    replace_tags = _replaces(call, b"x-amz-tagging-directive")
    given, condition, summed = read_attributes(call), read_condition(headers), upload_checksum(headers)
    call.namespace.writable(call.path)
    source = await find_source(call)
    if source.size > MAX_PUT_BYTES:
        raise S3Error("InvalidRequest", f"The specified copy source is larger than the maximum allowable size: {MAX_PUT_BYTES}")
    if source.key == call.path and not replace_metadata:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's "
            "metadata, storage class, website redirect location or encryption attributes.",
        )
    attributes = await _attributes(call, source, given, replace_metadata=replace_metadata, replace_tags=replace_tags)
    if summed is None:
        work = call.namespace.copy(source, call.path, attributes, condition=condition)
    else:
        attributes = attributes or attributes_of(source, await call.namespace.tags(source.key))
        reading = await call.namespace.read(source.key, version=source.version)
        work = call.namespace.write(call.path, SummedBody(reading, summed.algorithm), attributes, condition=condition)
    answer = await patiently(work, lambda info: copy_result("CopyObjectResult", info.etag, info.modified_s, info.checksums))
    if source.version_id not in ("", "null"):
        fields = answer.fields + b"x-amz-copy-source-version-id: " + source.version_id.encode() + b"\r\n"
        return Response(answer.status, fields, answer.body)
    return answer


async def _attributes(
    call: Call, source: ObjectInfo, given: Attributes, *, replace_metadata: bool, replace_tags: bool
) -> Attributes | None:
    """What the copy has; None: all that the source has. Who owned the source is nothing to the copy."""
    if not replace_metadata and not replace_tags and not call.keeps_acls(call.path) and not call.keeps_acls(source.key):
        return None
    tags: Pairs = given.tags if replace_tags else await call.namespace.tags(source.key)
    return msgspec.structs.replace(given if replace_metadata else attributes_of(source), tags=with_acl(call, tags))


def _replaces(call: Call, name: bytes) -> bool:
    directive = text(call.request.headers.get(name, b"COPY")).upper()
    if directive not in _DIRECTIVES:
        raise S3Error("InvalidArgument", f"Unknown value of {name.decode()}: COPY or REPLACE.")
    return directive == "REPLACE"


def copy_result(element: str, etag: str, modified_s: float, checksums: Pairs) -> str:
    """The document that answers a copy."""
    return (
        f"<{element} {NAMESPACE}><LastModified>{timestamp(int(modified_s))}</LastModified>"
        f"<ETag>&quot;{escape(etag)}&quot;</ETag>{checksum_elements(checksums)}</{element}>"
    )
