"""GetObject and HeadObject."""

from __future__ import annotations

from collections.abc import AsyncIterator

from headrace.gateways.http.messages import Response, render_fields
from headrace.gateways.s3.conditions import NAMES, Verdict, judge, range_still_valid
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.describe import Overrides, checksum_pairs, content_range, object_pairs, served_fields
from headrace.gateways.s3.errors import S3Error, precondition_failed
from headrace.gateways.s3.ranges import RangeWish, Suffix, fit_range, parse_range
from headrace.model.errors import InvalidRange, Unsupported, VersionChanged
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer, Reading

_TRIES = 4
_OVERRIDES = {
    "response-content-type": "content-type",
    "response-content-language": "content-language",
    "response-expires": "expires",
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
}


class StartedReading(Reading):
    """A reading whose first bytes are at hand, so that a change of version before them can still be retried."""

    __slots__ = ("_first", "_inner", "_rest")

    def __init__(self, inner: Reading, first: Buffer, rest: AsyncIterator[Buffer]) -> None:
        super().__init__(inner.info, inner.range, served=inner.served, age_s=inner.age_s)
        self._inner = inner
        self._first = first
        self._rest = rest

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        yield self._first
        async for buffer in self._rest:
            yield buffer

    async def aclose(self) -> None:
        await self._inner.aclose()


async def get_object(call: Call) -> Response:
    """The object's bytes, or the part that was asked for. Restarts when the object changes before any byte left."""
    for attempt in range(_TRIES):
        try:
            return await _get_once(call)
        except VersionChanged:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError


async def _get_once(call: Call) -> Response:
    overrides = _overrides(call)
    wish = parse_range(call.request.headers.get(b"range"))
    if not _needs_info(call, wish):
        byte_range = wish if isinstance(wish, ByteRange) else None
        reading = await started(await call.namespace.read(call.path, byte_range))
        sums = checksum_pairs(reading.info) if _wants_sums(call) else []
        return _body(call, reading, overrides + tuple(sums), partial=byte_range is not None)
    info = await call.namespace.info(call.path)
    refusal = judge_read(call, info)
    if refusal is not None:
        return refusal
    wish = await _effective_range(call, info, wish)
    cut = fit_range(wish, info.size)
    if cut is None:
        raise InvalidRange("the range lies outside the object", path=call.path, size=info.size)
    reading = await started(await call.namespace.read(call.path, cut if wish is not None else None, version=info.version))
    return _body(call, reading, overrides + await _sums(call, info), partial=wish is not None)


async def head_object(call: Call) -> Response:
    """As GetObject, without the bytes."""
    overrides = _overrides(call)
    info = await call.namespace.info(call.path)
    refusal = judge_read(call, info)
    if refusal is not None:
        return refusal
    wish = await _effective_range(call, info, parse_range(call.request.headers.get(b"range")))
    cut = fit_range(wish, info.size)
    if cut is None:
        raise InvalidRange("the range lies outside the object", path=call.path, size=info.size)
    fields = _fields(call, info, overrides + await _sums(call, info))
    if wish is None:
        return Response(200, fields, length=info.size)
    return Response(206, fields + content_range(cut, info.size), length=cut.length)


def _needs_info(call: Call, wish: RangeWish) -> bool:
    """Whether the object must be known before its bytes are asked for."""
    headers = call.request.headers
    return (
        isinstance(wish, Suffix)
        or b"if-range" in headers
        or any(name in headers for name in NAMES)
        or call.target.has("partNumber")
        or bool(call.check_version_id())
    )


def judge_read(call: Call, info: ObjectInfo) -> Response | None:
    """The answer when a condition stops the read. Raises `S3Error` for another version than the one at hand."""
    wanted = call.check_version_id()
    if wanted and wanted != info.version_id:
        raise S3Error("NoSuchVersion", "The specified version does not exist.")
    verdict = judge(call.request.headers, info, call.now_s)
    if verdict is Verdict.NOT_MODIFIED:
        return Response(304, render_fields(object_pairs(info)))
    if verdict is Verdict.FAILED:
        raise precondition_failed(call.request.headers)
    return None


async def _effective_range(call: Call, info: ObjectInfo, wish: RangeWish) -> RangeWish:
    number = call.target.get("partNumber")
    if call.target.has("partNumber"):
        if wish is not None:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        return await _part_range(call, number, info)
    return wish if range_still_valid(call.request.headers.get(b"if-range"), info, call.now_s) else None


async def _part_range(call: Call, number: str, info: ObjectInfo) -> RangeWish:
    if not (number.isascii() and number.isdigit()) or not 1 <= int(number[:6]) <= 10000:
        raise S3Error("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
    try:
        found = await call.namespace.part(call.path, info, int(number))
    except InvalidRange as error:
        detail = (("PartNumberRequested", number), ("ActualPartCount", str(max(info.parts, 1))))
        raise S3Error("InvalidPartNumber", "The requested partnumber is not satisfiable", detail=detail) from error
    return found if found.length else None


async def started(reading: Reading) -> Reading:
    """Wait for the first bytes of a stream: what fails before them is an error answer, not a cut connection."""
    if reading.ready is not None or reading.range.length == 0:
        return reading
    rest = aiter(reading)
    try:
        first = await anext(rest)
    except BaseException:  # whatever it is: tidied up here, raised on
        await reading.aclose()
        raise
    return StartedReading(reading, first, rest)


def _body(call: Call, reading: Reading, overrides: Overrides, *, partial: bool) -> Response:
    info = reading.info
    fields = _fields(call, info, overrides) + served_fields(reading)
    if partial:
        return Response(206, fields + content_range(reading.range, info.size), reading)
    return Response(200, fields, reading)


def _fields(call: Call, info: ObjectInfo, overrides: Overrides) -> bytes:
    pairs = object_pairs(info, overrides)
    if call.target.has("partNumber") and info.parts:
        pairs.append(("x-amz-mp-parts-count", str(info.parts)))
    return render_fields(pairs)


def _wants_sums(call: Call) -> bool:
    headers = call.request.headers
    return headers.get(b"x-amz-checksum-mode", b"").strip().upper() == b"ENABLED" and b"range" not in headers


async def _sums(call: Call, info: ObjectInfo) -> Overrides:
    """The checksums of what is sent, for those who asked: the object's, or those of one of its parts where they are kept."""
    if not _wants_sums(call):
        return ()
    if not call.target.has("partNumber") or not info.parts:
        return tuple(checksum_pairs(info))
    number = int(call.target.get("partNumber"))
    try:
        found = await call.uploads.parts_of(info, after=number - 1, limit=1)
    except Unsupported:
        return ()
    kind = tuple(pair for pair in info.checksums if pair[0] == "type")
    return tuple((f"x-amz-checksum-{name}", value) for name, value in (*found[0].checksums, *kind) if found[0].checksums)


def _overrides(call: Call) -> Overrides:
    found = []
    for name, value in call.target.query:
        header = _OVERRIDES.get(name)
        if header is not None:
            if call.identity.caller.anonymous:
                raise S3Error("InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
            if any(ord(char) < 32 or ord(char) == 127 for char in value):
                raise S3Error("InvalidArgument", f"Header value for {name} holds control characters")
            found.append((header, value))
    return tuple(found)
