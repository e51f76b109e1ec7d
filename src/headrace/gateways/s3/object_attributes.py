"""GetObjectAttributes."""

from __future__ import annotations

from headrace.gateways.http.messages import Response, render_fields
from headrace.gateways.s3.answers import checksum_elements
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.describe import object_pairs
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.objects import judge_read
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape
from headrace.model.errors import Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.uploads import Part

_ATTRIBUTES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")
_MAX_PARTS = 1000


async def get_object_attributes(call: Call) -> Response:
    """The attributes named in `x-amz-object-attributes`."""
    asked = [a.strip() for a in call.request.headers.get(b"x-amz-object-attributes", b"").decode("latin-1").split(",")]
    if asked == [""] or any(name not in _ATTRIBUTES for name in asked):
        raise S3Error("InvalidArgument", f"x-amz-object-attributes names one or more of {', '.join(_ATTRIBUTES)}")
    info = await call.namespace.info(call.path)
    refusal = judge_read(call, info)
    if refusal is not None:
        return refusal
    parts = [f"<ETag>{escape(info.etag)}</ETag>" if "ETag" in asked and info.etag else ""]
    if "Checksum" in asked and info.checksums:
        parts.append(f"<Checksum>{checksum_elements(info.checksums)}</Checksum>")
    if "ObjectParts" in asked and info.parts:
        parts.append(await _object_parts(call, info))
    if "StorageClass" in asked:
        parts.append(f"<StorageClass>{escape(info.storage_class or 'STANDARD')}</StorageClass>")
    if "ObjectSize" in asked:
        parts.append(f"<ObjectSize>{info.size}</ObjectSize>")
    body = f"{DECLARATION}<GetObjectAttributesOutput {NAMESPACE}>{''.join(parts)}</GetObjectAttributesOutput>"
    answer = xml_response(body)
    described = [pair for pair in object_pairs(info) if pair[0] in ("last-modified", "x-amz-version-id")]
    return Response(200, answer.fields + render_fields(described), answer.body)


async def _object_parts(call: Call, info: ObjectInfo) -> str:
    """How many parts there are, and a page of them where the store remembers what they were."""
    limit = _number(call, b"x-amz-max-parts", _MAX_PARTS, _MAX_PARTS)
    marker = _number(call, b"x-amz-part-number-marker", 0, 2**31 - 1)
    try:
        parts = await _parts(call, info, marker, limit)
    except Unsupported:
        return f"<ObjectParts><PartsCount>{info.parts}</PartsCount></ObjectParts>"
    last = parts[-1].number if parts else marker
    truncated = last < info.parts
    shown = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><Size>{part.size}</Size>{checksum_elements(part.checksums)}</Part>"
        for part in parts
    )
    return (
        f"<ObjectParts><PartsCount>{info.parts}</PartsCount><PartNumberMarker>{marker}</PartNumberMarker>"
        + (f"<NextPartNumberMarker>{last}</NextPartNumberMarker>" if truncated else "")
        + f"<MaxParts>{limit}</MaxParts><IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{shown}</ObjectParts>"
    )


async def _parts(call: Call, info: ObjectInfo, after: int, limit: int) -> tuple[Part, ...]:
    """With their checksums where those are kept, else where they begin and end alone."""
    try:
        return await call.uploads.parts_of(info, after=after, limit=limit)
    except Unsupported:
        numbers = range(after + 1, min(info.parts, after + limit) + 1)
        cuts = [await call.namespace.part(call.path, info, number) for number in numbers]
        return tuple(Part(number, "", cut.length) for number, cut in zip(numbers, cuts, strict=True))


def _number(call: Call, name: bytes, default: int, most: int) -> int:
    text = call.request.headers.get(name, b"").strip(b" \t").decode("latin-1")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise S3Error("InvalidArgument", f"{name.decode()} must be an integer that is not negative")
    return min(int(text), most)
