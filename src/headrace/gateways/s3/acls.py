"""Access control lists told and changed; where the mount keeps none, told as far as they say what is so.

Without kept lists the owner has full control, and a mount may let everybody read. With them (`grants.py`), an owner cannot be
left out of the own list.
"""

from __future__ import annotations

import msgspec

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.accepted import check_acl
from headrace.gateways.s3.buckets import require_bucket
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.grants import acl_among, new_acl, without_acl
from headrace.gateways.s3.incoming import buffered
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape, owner_element
from headrace.gateways.s3.xml_in import Shape, malformed, read_document
from headrace.model.writing import ACL_TAG
from headrace.policy.acls import EVERYBODY, GROUPS, Acl, Grant, Permission

_MAX_DOCUMENT_BYTES = 64 * 1024
_INSTANCE = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_WHO = ("ID", "URI", "EmailAddress")
_SHAPE = Shape(
    "AccessControlPolicy", frozenset(("Owner/ID", "Owner/DisplayName")), ("AccessControlList", "Grant"),
    frozenset(("Permission", "Grantee/DisplayName", "Grantee/Type", *[f"Grantee/{name}" for name in _WHO])), 100,
    frozenset(("Owner", "Grantee")),
)  # fmt: skip
_OF_MOUNTS = (Grant(EVERYBODY, Permission.READ),)


async def get_bucket_acl(call: Call) -> Response:
    """Who may do what, in the terms that S3 has for it."""
    await require_bucket(call)
    return _told(call, call.bucket_acl)


async def get_object_acl(call: Call) -> Response:
    """As GetBucketAcl."""
    await call.check_current_version()
    await call.namespace.info(call.path)
    bucket = call.bucket_acl
    return _told(call, None if bucket is None else acl_among(await call.namespace.tags(call.path), bucket))


async def put_bucket_acl(call: Call) -> Response:
    """Other grants in place of the bucket's; where none are kept, a canned ACL that says what is so, and nothing else."""
    document = await buffered(call, _MAX_DOCUMENT_BYTES)
    bucket = call.bucket_acl
    if bucket is None:
        _check(call, document)
        await require_bucket(call)
        return Response(200)
    await call.buckets.set_acl(call.target.bucket, _wanted(call, document, bucket, bucket).encoded())
    return Response(200)


async def put_object_acl(call: Call) -> Response:
    """As PutBucketAcl."""
    document = await buffered(call, _MAX_DOCUMENT_BYTES)
    bucket = call.bucket_acl
    if bucket is None:
        _check(call, document)
    await call.check_current_version()
    await call.namespace.info(call.path)
    if bucket is not None:
        tags = await call.namespace.tags(call.path)
        wanted = _wanted(call, document, acl_among(tags, bucket), bucket)
        await call.namespace.set_tags(call.path, (*without_acl(tags), (ACL_TAG, wanted.encoded())))
    return Response(200)


def _check(call: Call, document: bytes) -> None:
    if document or b"x-amz-acl" not in call.request.headers:
        raise S3Error("NotImplemented", "Grants are not kept here: rules of the policy say who may do what.")
    check_acl(call.request.headers, public=call.public)


def _wanted(call: Call, document: bytes, present: Acl, bucket: Acl) -> Acl:
    """What the request puts in place of `present`. What nobody owned is the caller's from then on. Raises `S3Error`."""
    owner = present.owner or call.identity.caller.key_id
    if document and b"x-amz-acl" in call.request.headers:
        raise S3Error("InvalidRequest", "Specifying both canned ACLs and a document of grants is not allowed")
    if not document:
        if b"x-amz-acl" not in call.request.headers:
            raise S3Error("InvalidRequest", "Your request was missing a required header: x-amz-acl, or a document of grants")
        return new_acl(call, owner, bucket.owner)
    found = read_document(document, _SHAPE)
    named = found.leaves.get("Owner/ID", "")
    if not named:
        raise malformed()
    if named != owner:
        raise refused("AccessDenied", "Access Denied", caller=call.identity.caller.key_id)
    grants = dict.fromkeys(_grant(item) for item in found.items)
    return Acl(owner, tuple([grant for grant in grants if grant.grantee != owner]))


def _grant(item: dict[str, str]) -> Grant:
    who = [name for name in _WHO if item.get(f"Grantee/{name}")]
    try:
        permission = Permission(item.get("Permission", ""))
    except ValueError:
        raise malformed() from None
    if len(who) != 1:
        raise malformed()
    grantee = item[f"Grantee/{who[0]}"]
    if who[0] == "EmailAddress":
        raise S3Error("NotImplemented", "Grantees are named by their key id or as a group, not by an e-mail address.")
    if (who[0] == "URI") != (grantee in GROUPS):
        raise S3Error("InvalidArgument", "Invalid group uri" if who[0] == "URI" else "Invalid id")
    return Grant(grantee, permission)


def _told(call: Call, acl: Acl | None) -> Response:
    if acl is None:
        acl = Acl(call.owner_id, _OF_MOUNTS if call.public else ())
    elif not acl.owner:
        acl = msgspec.structs.replace(acl, owner=call.owner_id)
    full = Grant(acl.owner, Permission.FULL_CONTROL)
    grants = "".join([_grant_element(grant) for grant in (full, *acl.grants)])
    return xml_response(
        f"{DECLARATION}<AccessControlPolicy {NAMESPACE}>{owner_element(acl.owner)}<AccessControlList>{grants}</AccessControlList>"
        "</AccessControlPolicy>"
    )


def _grant_element(grant: Grant) -> str:
    name = escape(grant.grantee)
    kind, who = ("Group", f"<URI>{name}</URI>")
    if grant.grantee not in GROUPS:
        kind, who = ("CanonicalUser", f"<ID>{name}</ID><DisplayName>{name}</DisplayName>")
    return f'<Grant><Grantee {_INSTANCE} xsi:type="{kind}">{who}</Grantee><Permission>{grant.permission}</Permission></Grant>'
