"""Access control lists, as far as they say what is so: the owner has full control, and a mount may let everybody read."""

from __future__ import annotations

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.accepted import OWNER_ID, check_acl
from headrace.gateways.s3.buckets import OWNER, require_bucket
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.incoming import buffered
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE

_MAX_DOCUMENT_BYTES = 64 * 1024
_INSTANCE = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_OWNERS = (
    f'<Grant><Grantee {_INSTANCE} xsi:type="CanonicalUser"><ID>{OWNER_ID}</ID><DisplayName>{OWNER_ID}</DisplayName></Grantee>'
    "<Permission>FULL_CONTROL</Permission></Grant>"
)
_EVERYBODYS = (
    f'<Grant><Grantee {_INSTANCE} xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>'
    "<Permission>READ</Permission></Grant>"
)


async def get_bucket_acl(call: Call) -> Response:
    """Who may do what, in the terms that S3 has for it."""
    await require_bucket(call)
    return _policy(call)


async def get_object_acl(call: Call) -> Response:
    """As GetBucketAcl."""
    await call.check_current_version()
    await call.namespace.info(call.path)
    return _policy(call)


async def put_bucket_acl(call: Call) -> Response:
    """A canned ACL that says what is so; everything else is refused."""
    await _check(call)
    await require_bucket(call)
    return Response(200)


async def put_object_acl(call: Call) -> Response:
    """As PutBucketAcl."""
    await _check(call)
    await call.check_current_version()
    await call.namespace.info(call.path)
    return Response(200)


async def _check(call: Call) -> None:
    document = await buffered(call, _MAX_DOCUMENT_BYTES)
    if document or b"x-amz-acl" not in call.request.headers:
        raise S3Error("NotImplemented", "Grants are not kept here: rules of the policy say who may do what.")
    check_acl(call.request.headers, public=call.public)


def _policy(call: Call) -> Response:
    grants = _OWNERS + (_EVERYBODYS if call.public else "")
    return xml_response(
        f"{DECLARATION}<AccessControlPolicy {NAMESPACE}>{OWNER}<AccessControlList>{grants}</AccessControlList>"
        "</AccessControlPolicy>"
    )
