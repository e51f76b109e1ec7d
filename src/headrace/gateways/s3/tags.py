"""Tags of objects: S3's limits, their three ways in (a header, a document, a form's field), and the operations on them."""

from __future__ import annotations

import re

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.grants import without_acl
from headrace.gateways.s3.incoming import buffered
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape
from headrace.gateways.s3.xml_in import Shape, read_document
from headrace.model.sigv4 import split_query
from headrace.model.writing import ACL_TAG, Pairs

_MAX_TAGS = 10
_MAX_KEY_CHARS = 128
_MAX_VALUE_CHARS = 256
_MAX_DOCUMENT_BYTES = 64 * 1024
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SHAPE = Shape("Tagging", item=("TagSet", "Tag"), item_leaves=frozenset(("Key", "Value")), max_items=100)


async def get_object_tagging(call: Call) -> Response:
    """The object's tags."""
    await call.check_current_version()
    tags = without_acl(await call.namespace.tags(call.path))
    inner = "".join(f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags)
    return xml_response(f"{DECLARATION}<Tagging {NAMESPACE}><TagSet>{inner}</TagSet></Tagging>")


async def put_object_tagging(call: Call) -> Response:
    """Other tags in place of the object's."""
    await call.check_current_version()
    tags = read_tags(await buffered(call, _MAX_DOCUMENT_BYTES))
    await call.namespace.set_tags(call.path, tags)
    return Response(200)


async def delete_object_tagging(call: Call) -> Response:
    """No tags any more."""
    await call.check_current_version()
    await buffered(call, 0)
    await call.namespace.set_tags(call.path, ())
    return Response(204)


def read_tags(document: bytes) -> Pairs:
    """The tags of a `Tagging` document. Raises `S3Error`."""
    items = read_document(document, _SHAPE).items
    if any(item.keys() != _SHAPE.item_leaves for item in items):
        raise S3Error("MalformedXML", "Each tag has one key and one value.")
    return check_tags(tuple((item["Key"], item["Value"]) for item in items))


def header_tags(header: bytes | None) -> Pairs:
    """The tags of an `x-amz-tagging` header, a query string. Raises `S3Error`."""
    if not header:
        return ()
    if _BAD_ESCAPE.search(header):
        raise S3Error("InvalidArgument", "The header 'x-amz-tagging' shall be encoded as URL query parameters.")
    try:
        pairs = split_query(header.strip(b" \t"))
        return check_tags(tuple((name.decode(), value.decode()) for name, value in pairs))
    except UnicodeDecodeError:
        raise S3Error("InvalidArgument", "The header 'x-amz-tagging' is not UTF-8 when decoded.") from None


def check_tags(tags: Pairs) -> Pairs:
    """The tags as they are kept, sorted by name. Raises `S3Error` for more or longer ones than S3 takes."""
    if len(tags) > _MAX_TAGS:
        raise S3Error("BadRequest", f"Object tags cannot be greater than {_MAX_TAGS}")
    for name, value in tags:
        if not 1 <= len(name) <= _MAX_KEY_CHARS or name.startswith("aws:") or name == ACL_TAG:
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid")
        if len(value) > _MAX_VALUE_CHARS:
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid")
    if len({name for name, _ in tags}) != len(tags):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
    return tuple(sorted(tags))
