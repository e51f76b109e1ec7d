"""PostObject: an upload by a browser's form, whose signer is the caller."""

from __future__ import annotations

import msgspec

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.grants import require_write, with_acl
from headrace.gateways.s3.post_form import answer_post, read_post
from headrace.gateways.s3.put import bounded
from headrace.gateways.s3.tags import read_tags
from headrace.gateways.s3.target import Target, check_names
from headrace.gateways.s3.xml import url_encode
from headrace.policy.rules import Action

FORM_TYPE = b"multipart/form-data"


async def post_object(call: Call) -> Response:
    """The form's file becomes the object; the policy decides on its key for whoever signed the form."""
    form = await read_post(call, call.authenticator)
    check_names(form.bucket, form.key)
    call = msgspec.structs.replace(call, identity=form.identity, target=Target(form.bucket, form.key))
    call.noted.path = call.path
    call.require(Action.WRITE, call.path)
    call = await require_write(call)
    call.namespace.writable(call.path)
    attributes = form.attributes
    if form.tagging:
        attributes = msgspec.structs.replace(attributes, tags=read_tags(form.tagging.encode()))
    attributes = msgspec.structs.replace(attributes, tags=with_acl(call, attributes.tags))
    info = await call.namespace.write(call.path, bounded(form.body), attributes)
    host = call.request.headers.get(b"host", b"").decode("latin-1")
    return answer_post(form, info.etag, f"http://{host}{url_encode(call.path)}")
