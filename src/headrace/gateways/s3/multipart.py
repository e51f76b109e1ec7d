"""Multipart uploads: begun, filled with parts, listed, completed or given up."""

from __future__ import annotations

import re
from itertools import pairwise

import msgspec

from headrace.gateways.http.messages import Response, render_fields
from headrace.gateways.s3.answers import checksum_elements, patiently
from headrace.gateways.s3.attributes import plain_tag, read_attributes, read_condition
from headrace.gateways.s3.checksums import PREFIX, checksum_type, upload_checksum
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.copying import copy_result, find_source
from headrace.gateways.s3.errors import S3Error, conflict, precondition_failed
from headrace.gateways.s3.incoming import buffered
from headrace.gateways.s3.put import MAX_PUT_BYTES, upload_body
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape
from headrace.gateways.s3.xml_in import Shape, malformed, read_document
from headrace.model.checksums import Algorithm, read_digest
from headrace.model.errors import ConditionFailed, Conflict, CorruptData
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import MAX_PART_NUMBER, Part, Upload
from headrace.model.writing import Condition, Pairs

_MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""Ten thousand parts with a checksum each."""
_SUMS = {f"Checksum{algorithm.name}": algorithm for algorithm in Algorithm}
_WHOLE_SUMS = {f"{PREFIX}{algorithm.value}".encode(): algorithm for algorithm in Algorithm}
_OF_PARTS = re.compile(r"-\d{1,5}\Z")
_SHAPE = Shape(
    "CompleteMultipartUpload", item=("Part",), item_leaves=frozenset(("PartNumber", "ETag", *_SUMS)), max_items=MAX_PART_NUMBER
)
_SOURCE_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


async def create_multipart_upload(call: Call) -> Response:
    """A new upload. Its attributes are the object's when it is completed."""
    headers = call.request.headers
    await buffered(call, 0)
    attributes, summed = read_attributes(call), upload_checksum(headers)
    algorithm, kind = (summed.algorithm.value, summed.type.value) if summed is not None else ("", "")
    upload = await call.uploads.begin(call.path, attributes, checksum=algorithm, checksum_type=kind)
    answer = xml_response(
        f"{DECLARATION}<InitiateMultipartUploadResult {NAMESPACE}>{_place(call)}"
        f"<UploadId>{escape(upload.id)}</UploadId></InitiateMultipartUploadResult>"
    )
    if summed is None:
        return answer
    said = (("x-amz-checksum-algorithm", summed.algorithm.name), ("x-amz-checksum-type", kind))
    return Response(200, answer.fields + render_fields(said), answer.body)


async def upload_part(call: Call) -> Response:
    """The body becomes a part."""
    upload, number = named_upload(call), _part_number(call)
    call.namespace.writable(call.path)
    part = await call.uploads.put(upload, number, upload_body(call))
    sums = [(f"x-amz-checksum-{name}", value) for name, value in part.checksums if name != "type"]
    return Response(200, render_fields((("etag", f'"{part.etag}"'), *sums)))


async def upload_part_copy(call: Call) -> Response:
    """An object, or a range of it, becomes a part."""
    await buffered(call, 0)
    upload, number = named_upload(call), _part_number(call)
    call.namespace.writable(call.path)
    source = await find_source(call)
    cut = _source_range(call, source)
    if (cut.length if cut is not None else source.size) > MAX_PUT_BYTES:
        raise S3Error("InvalidRequest", f"The specified copy source is larger than the maximum allowable size: {MAX_PUT_BYTES}")
    part = await call.uploads.copy(upload, number, source, cut)
    return xml_response(DECLARATION + copy_result("CopyPartResult", part.etag, part.modified_s, part.checksums))


async def complete_multipart_upload(call: Call) -> Response:
    """The named parts become the object, at once and whole."""
    headers = call.request.headers
    upload, condition = named_upload(call), read_condition(headers)
    expected = _expected(headers)
    # These are said of the object, not of the document that is sent.
    plain = {name: value for name, value in headers.items() if not name.startswith(b"x-amz-checksum-")}
    document = await buffered(
        msgspec.structs.replace(call, request=msgspec.structs.replace(call.request, headers=plain)), _MAX_DOCUMENT_BYTES
    )
    parts = read_parts(document)
    await _check_size(call, upload, parts)

    def show(info: ObjectInfo) -> str:
        location = f"<Location>http://{escape(headers.get(b'host', b'').decode('latin-1'))}{escape(call.path)}</Location>"
        return (
            f"<CompleteMultipartUploadResult {NAMESPACE}>{location}{_place(call)}<ETag>&quot;{escape(info.etag)}&quot;</ETag>"
            f"{checksum_elements(info.checksums)}</CompleteMultipartUploadResult>"
        )

    return await patiently(_complete(call, upload, parts, condition, expected), show)


async def abort_multipart_upload(call: Call) -> Response:
    """The upload and its parts are gone."""
    await buffered(call, 0)
    await call.uploads.abort(named_upload(call))
    return Response(204)


def _expected(headers: dict[bytes, bytes]) -> Pairs:
    """What the caller says that the whole object's checksum will be, and of what it is one."""
    kind = checksum_type(headers)
    found = [(algorithm, headers[name]) for name, algorithm in _WHOLE_SUMS.items() if name in headers]
    if len(found) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    sums: list[tuple[str, str]] = []
    for algorithm, raw in found:
        value = raw.strip(b" \t").decode("latin-1")
        if read_digest(algorithm, _OF_PARTS.sub("", value)) is None:
            raise S3Error("InvalidRequest", f"Value for {PREFIX}{algorithm.value} header is invalid.")
        sums.append((algorithm.value, value))
    return tuple(sums) if kind is None else (*sums, ("type", kind.value))


def read_parts(document: bytes) -> tuple[Part, ...]:
    """The parts that a document names. Raises `S3Error`."""
    parts = tuple([_read_part(item) for item in read_document(document, _SHAPE).items])
    if not parts:
        raise malformed()
    if any(first.number >= second.number for first, second in pairwise(parts)):
        raise S3Error(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
        )
    return parts


def _read_part(item: dict[str, str]) -> Part:
    number, tag = item.get("PartNumber", "").strip(), plain_tag(item.get("ETag", ""))
    if not (number.isascii() and number.isdigit() and len(number) < 10) or not tag:
        raise malformed()
    _check_number(int(number))
    sums = tuple([(_SUMS[name].value, value) for name, value in item.items() if name in _SUMS])
    if any(read_digest(Algorithm(name), value) is None for name, value in sums):
        raise S3Error("InvalidRequest", "A part's checksum is not one of its algorithm.")
    return Part(int(number), tag, checksums=sums)


async def _complete(call: Call, upload: Upload, parts: tuple[Part, ...], condition: Condition, expected: Pairs) -> ObjectInfo:
    try:
        return await call.uploads.complete(upload, parts, condition=condition, checksums=expected)
    except CorruptData as error:
        raise S3Error("BadDigest", "The checksum you specified did not match that of the whole object.") from error
    except ConditionFailed as error:
        raise precondition_failed(call.request.headers) from error
    except Conflict as error:
        raise conflict(conditional=bool(condition)) from error


async def _check_size(call: Call, upload: Upload, parts: tuple[Part, ...]) -> None:
    """Raises `S3Error` when the parts do not come to the size that `x-amz-mp-object-size` says."""
    wanted = call.request.headers.get(b"x-amz-mp-object-size")
    if wanted is None:
        return
    if not re.fullmatch(rb"[0-9]{1,19}", wanted):
        raise S3Error("InvalidRequest", "x-amz-mp-object-size is not a number of bytes.")
    named, size, after = {part.number for part in parts}, 0, 0
    while named:
        page = await call.uploads.parts(upload, after=after)
        size += sum(part.size for part in page.parts if part.number in named)
        if page.after is None:
            break
        after = page.after
    if size != int(wanted):
        raise S3Error("InvalidRequest", "The provided 'x-amz-mp-object-size' header does not match what was computed.")


def named_upload(call: Call) -> Upload:
    """The upload that a request names. Raises `S3Error`."""
    upload_id = call.target.get("uploadId")
    if not upload_id:
        raise S3Error("InvalidArgument", "This operation does not accept a query-string parameter uploadId without a value.")
    return Upload(call.path, upload_id)


def _part_number(call: Call) -> int:
    text = call.target.get("partNumber")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _no_number()
    _check_number(int(text))
    return int(text)


def _check_number(number: int) -> None:
    if not 1 <= number <= MAX_PART_NUMBER:
        raise _no_number()


def _no_number() -> S3Error:
    return S3Error("InvalidArgument", f"Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive")


def _source_range(call: Call, source: ObjectInfo) -> ByteRange | None:
    header = call.request.headers.get(b"x-amz-copy-source-range")
    if header is None:
        return None
    match = _SOURCE_RANGE.fullmatch(header.strip(b" \t").decode("latin-1"))
    if match is None or int(match[2]) < int(match[1]):
        raise S3Error("InvalidArgument", "The x-amz-copy-source-range value must be of the form bytes=first-last")
    if int(match[2]) >= source.size:
        raise S3Error("InvalidRange", f"Range specified is not valid for source object of size: {source.size}")
    return ByteRange(int(match[1]), int(match[2]) + 1)


def _place(call: Call) -> str:
    return f"<Bucket>{escape(call.target.bucket)}</Bucket><Key>{escape(call.target.key)}</Key>"
