"""What access control lists say to a request, on a mount that keeps them: asked behind the policy, before anything is done.

An object has its list among its tags, a bucket has its own beside it. What came into being past this gateway has none: an object
is its bucket's owner's then, and a bucket nobody's, so that rules alone decide for callers with a key.
"""

from __future__ import annotations

import msgspec

from headrace.gateways.s3.accepted import canned_acl
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.routes import Operation
from headrace.model.errors import CorruptData, NotFound
from headrace.model.writing import ACL_TAG, Pairs
from headrace.policy.acls import Acl, Permission, canned, decoded

_ON_BUCKET = {
    Operation.HEAD_BUCKET: Permission.READ,
    Operation.LIST_OBJECTS: Permission.READ,
    Operation.LIST_OBJECTS_V2: Permission.READ,
    Operation.LIST_OBJECT_VERSIONS: Permission.READ,
    Operation.LIST_MULTIPART_UPLOADS: Permission.READ,
    Operation.GET_BUCKET_ACL: Permission.READ_ACP,
    Operation.PUT_BUCKET_ACL: Permission.WRITE_ACP,
    Operation.PUT_OBJECT: Permission.WRITE,
    Operation.COPY_OBJECT: Permission.WRITE,
    Operation.DELETE_OBJECT: Permission.WRITE,
    Operation.DELETE_OBJECTS: Permission.WRITE,
    Operation.CREATE_MULTIPART_UPLOAD: Permission.WRITE,
    Operation.UPLOAD_PART: Permission.WRITE,
    Operation.UPLOAD_PART_COPY: Permission.WRITE,
    Operation.COMPLETE_MULTIPART_UPLOAD: Permission.WRITE,
    Operation.ABORT_MULTIPART_UPLOAD: Permission.WRITE,
    Operation.LIST_PARTS: Permission.WRITE,
}
_ON_OBJECT = {
    Operation.GET_OBJECT: Permission.READ,
    Operation.HEAD_OBJECT: Permission.READ,
    Operation.GET_OBJECT_ATTRIBUTES: Permission.READ,
    Operation.GET_OBJECT_ACL: Permission.READ_ACP,
    Operation.PUT_OBJECT_ACL: Permission.WRITE_ACP,
    Operation.GET_OBJECT_TAGGING: Permission.FULL_CONTROL,
    Operation.PUT_OBJECT_TAGGING: Permission.FULL_CONTROL,
    Operation.DELETE_OBJECT_TAGGING: Permission.FULL_CONTROL,
}
_ASK_THEMSELVES = (Operation.LIST_BUCKETS, Operation.POST_OBJECT)
"""One shows what is the caller's own, the other knows its caller from the body alone."""


async def granted(call: Call) -> Call:
    """The call, with its bucket's list, once the lists have allowed it; as it is where its mount keeps none.

    Raises the audited `S3Error` when they do not, and NoSuchBucket.
    """
    operation, caller = call.route.operation, call.identity.caller
    if not call.keeps_acls(call.path) or operation in _ASK_THEMSELVES:
        return call
    if operation is Operation.CREATE_BUCKET:
        if caller.anonymous:
            raise _denied(call)
        return call
    bucket = await bucket_acl(call, call.target.bucket)
    call = msgspec.structs.replace(call, bucket_acl=bucket)
    if operation in _ON_OBJECT:
        await require_on_object(call, call.path, _ON_OBJECT[operation])
    elif operation in _ON_BUCKET:
        if not bucket.allows(caller, _ON_BUCKET[operation]):
            raise _denied(call)
    elif not bucket.owned_by(caller):
        raise _denied(call)
    return call


async def require_on_object(call: Call, path: str, permission: Permission) -> None:
    """Raises the audited `S3Error` when the lists do not let this caller do that with the object, and NoSuchBucket.

    Whether there is an object is told to those alone who may list its bucket. Where its mount keeps no lists, nothing is asked.
    """
    if not call.keeps_acls(path):
        return
    caller = call.identity.caller
    bucket = await bucket_acl(call, path[1:].partition("/")[0])
    try:
        tags = await call.namespace.tags(path)
    except NotFound:
        if bucket.allows(caller, Permission.READ):
            return
        raise _denied(call) from None
    if not acl_among(tags, bucket).allows(caller, permission):
        raise _denied(call)


async def require_write(call: Call) -> Call:
    """`granted`, for a caller who was found out late and wants to write an object."""
    if not call.keeps_acls(call.path):
        return call
    bucket = await bucket_acl(call, call.target.bucket)
    if not bucket.allows(call.identity.caller, Permission.WRITE):
        raise _denied(call)
    return msgspec.structs.replace(call, bucket_acl=bucket)


async def bucket_acl(call: Call, name: str) -> Acl:
    """Raises `S3Error` NoSuchBucket."""
    try:
        return read_acl(await call.buckets.acl(name), f"/{name}")
    except NotFound as error:
        raise S3Error("NoSuchBucket", "The specified bucket does not exist.") from error


def acl_among(tags: Pairs, bucket: Acl) -> Acl:
    """The list of an object with these tags."""
    text = dict(tags).get(ACL_TAG, "")
    return read_acl(text, "an object") if text else Acl(bucket.owner)


def with_acl(call: Call, tags: Pairs) -> Pairs:
    """The tags, with the list that a new object of this caller has, as `x-amz-acl` says; without one where none are kept.

    What a caller without a key writes is the bucket's owner's. Raises `S3Error`.
    """
    plain = without_acl(tags)
    bucket = call.bucket_acl
    if bucket is None:
        return plain
    owner = call.identity.caller.key_id or bucket.owner
    found = new_acl(call, owner, bucket.owner)
    return (*plain, (ACL_TAG, found.encoded())) if found.owner else plain


def new_acl(call: Call, owner: str, bucket_owner: str) -> Acl:
    """The list that `x-amz-acl` names. Raises `S3Error`."""
    name = canned_acl(call.request.headers)
    found = canned(name, owner, bucket_owner)
    if found is None:
        raise S3Error("NotImplemented", f"The canned ACL {name} is not kept here.", detail=(("Header", "x-amz-acl"),))
    return found


def without_acl(tags: Pairs) -> Pairs:
    """The tags that callers see."""
    return tuple([pair for pair in tags if pair[0] != ACL_TAG])


def read_acl(text: str, what: str) -> Acl:
    """A list as it is kept. Raises `CorruptData`."""
    try:
        return decoded(text)
    except ValueError as error:
        raise CorruptData(f"the access control list of {what} cannot be read: nothing is allowed by it") from error


def _denied(call: Call) -> S3Error:
    return refused("AccessDenied", "Access Denied", caller=call.identity.caller.key_id)
