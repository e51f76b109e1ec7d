"""DeleteObject and DeleteObjects. Every key of a document is checked and decided on by itself, like a request's own."""

from __future__ import annotations

import asyncio

import msgspec

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.attributes import plain_tag, read_condition
from headrace.gateways.s3.buckets import require_bucket
from headrace.gateways.s3.checksums import declared_checksum
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error, translate
from headrace.gateways.s3.incoming import buffered
from headrace.gateways.s3.target import check_names
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape
from headrace.gateways.s3.xml_in import Shape, malformed, read_document
from headrace.model.errors import HeadraceError
from headrace.model.events import BackgroundError
from headrace.model.writing import ALWAYS, Condition
from headrace.policy.rules import Action

_MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""A thousand keys of a kilobyte, written with escapes."""
_AT_ONCE = 16
_SHAPE = Shape(
    "Delete", frozenset(("Quiet",)), ("Object",), frozenset(("Key", "VersionId", "ETag", "LastModifiedTime", "Size")), 1000
)


class _Wish(msgspec.Struct, frozen=True):
    key: str
    version_id: str
    condition: Condition


async def delete_object(call: Call) -> Response:
    """The object is gone; that there was none is no error."""
    condition = read_condition(call.request.headers)
    await buffered(call, 0)
    call.namespace.writable(call.path)
    await _check_version(call, call.path, call.check_version_id())
    await call.namespace.delete(call.path, condition=condition)
    return Response(204)


async def delete_objects(call: Call) -> Response:
    """What became of each key, in the order of the document; at most `_AT_ONCE` are under way together."""
    headers = call.request.headers
    if b"content-md5" not in headers and declared_checksum(headers) is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    document = read_document(await buffered(call, _MAX_DOCUMENT_BYTES), _SHAPE)
    quiet = _boolean(document.leaves.get("Quiet", "false"))
    wishes = [_read_wish(item) for item in document.items]
    if not wishes:
        raise malformed()
    await require_bucket(call)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def settle(wish: _Wish) -> S3Error | None:
        async with gate:
            return await _delete_one(call, wish)

    outcomes = await asyncio.gather(*(settle(wish) for wish in wishes))
    inner = "".join(_shown(wish, error, quiet) for wish, error in zip(wishes, outcomes, strict=True))
    return xml_response(f"{DECLARATION}<DeleteResult {NAMESPACE}>{inner}</DeleteResult>")


def _read_wish(item: dict[str, str]) -> _Wish:
    if not item.get("Key"):
        raise malformed()
    if "LastModifiedTime" in item or "Size" in item:
        raise S3Error("NotImplemented", "LastModifiedTime and Size are conditions of directory buckets.")
    tag = plain_tag(item["ETag"]) if "ETag" in item else ""
    if "ETag" in item and not tag:
        raise malformed()
    version_id = item.get("VersionId", "")
    return _Wish(item["Key"], "" if version_id == "null" else version_id, Condition(if_match=tag) if tag else ALWAYS)


async def _delete_one(call: Call, wish: _Wish) -> S3Error | None:
    """What hindered it; None: it is gone."""
    path = f"/{call.target.bucket}/{wish.key}"
    try:
        check_names(call.target.bucket, wish.key)
        call.require(Action.WRITE, path)
        call.namespace.writable(path)
        await _check_version(call, path, wish.version_id)
        await call.namespace.delete(path, condition=wish.condition)
    except HeadraceError as error:
        said = translate(error)
        call.audit(said, path)
        return said
    except Exception as error:  # noqa: BLE001  a fault of ours spoils one key of the document, not the answer about the others
        call.emit(BackgroundError("s3 gateway", f"DeleteObjects: {type(error).__name__}: {error}"))
        return S3Error("InternalError", "We encountered an internal error. Please try again.")
    return None


async def _check_version(call: Call, path: str, version_id: str) -> None:
    """One version of each object is shown, and none but that can be taken away."""
    if not version_id:
        return
    if (await call.namespace.info(path)).version_id != version_id:
        raise S3Error("NoSuchVersion", "The specified version does not exist.")
    raise S3Error("NotImplemented", "Single versions of an object are not removed here.")


def _shown(wish: _Wish, error: S3Error | None, quiet: bool) -> str:
    named = f"<Key>{escape(wish.key)}</Key>" + (f"<VersionId>{escape(wish.version_id)}</VersionId>" if wish.version_id else "")
    if error is None:
        return "" if quiet else f"<Deleted>{named}</Deleted>"
    return f"<Error>{named}<Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"


def _boolean(text: str) -> bool:
    if text.strip() not in ("true", "false", "1", "0"):
        raise malformed()
    return text.strip() in ("true", "1")
