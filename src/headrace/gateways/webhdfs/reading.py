"""OPEN, GETFILECHECKSUM, and where the blocks of a file are said to be."""

from __future__ import annotations

from urllib.parse import urlsplit

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.describe import served_fields
from headrace.gateways.s3.objects import started
from headrace.gateways.webhdfs.asked import Asked
from headrace.gateways.webhdfs.checksum import MOST_BYTES, BlockSums
from headrace.gateways.webhdfs.context import Call, json_response
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter
from headrace.gateways.webhdfs.status import BLOCK_BYTES, find_file
from headrace.model.errors import InvalidRange, VersionChanged
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Reading

_TRIES = 4
_FAR = 2**63 - 1
_BYTES = b"content-type: application/octet-stream\r\nx-content-type-options: nosniff\r\n"
_NO_TOKEN = {"urlString": "AAAAAA"}


def wished_range(asked: Asked) -> ByteRange | None:
    """The bytes that OPEN is asked for; None: all. Raises `HdfsError`."""
    offset, length = asked.number("offset", 0), asked.number("length", -1)
    if offset < 0:
        raise bad_parameter("offset", "it is negative")
    if length < -1:
        raise bad_parameter("length", "it is negative")
    if length < 0:
        return ByteRange(offset, _FAR) if offset else None
    return ByteRange(offset, offset + length)


async def open_file(call: Call) -> Response:
    """First the way to the bytes, then the bytes."""
    wish = wished_range(call.asked)
    if not call.is_data_step:
        info = await find_file(call.namespace, call.path)
        if wish is not None and wish.start >= info.size > 0:
            raise _out_of_range(call, wish, info.size)
        return call.redirect()
    for attempt in range(_TRIES):
        try:
            return await _read_once(call, wish)
        except VersionChanged:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError


async def _read_once(call: Call, wish: ByteRange | None) -> Response:
    if wish is not None and not wish.length:
        await find_file(call.namespace, call.path)
        return Response(200, _BYTES)
    if call.path.count("/") < 2:
        await find_file(call.namespace, call.path)
    try:
        reading = await call.namespace.read(call.path, wish)
    except FileNotFoundError:
        info = await find_file(call.namespace, call.path)  # says whether it is a directory
        reading = await call.namespace.read(call.path, wish, version=info.version)
    except InvalidRange as error:
        if error.size or wish is None:
            raise _out_of_range(call, wish or ByteRange(0, 0), error.size) from error
        return Response(200, _BYTES)
    return bytes_of(await started(reading))


def bytes_of(reading: Reading) -> Response:
    """The answer that carries a reading."""
    return Response(200, _BYTES + served_fields(reading), reading)


def _out_of_range(call: Call, wish: ByteRange, size: int) -> HdfsError:
    return HdfsError("IOException", f"Offset={wish.start} out of the range [0, {size}); OPEN, path={call.path}")


async def get_file_checksum(call: Call) -> Response:
    """The checksum that HDFS would tell of the same bytes, made by reading all of them."""
    info = await find_file(call.namespace, call.path)
    if info.size > MOST_BYTES:
        raise HdfsError(
            "UnsupportedOperationException",
            f"{call.path} has {info.size} bytes: a checksum is made by reading all of them, for at most {MOST_BYTES}",
        )
    if not call.is_data_step:
        return call.redirect()
    async with call.desk.sums:
        sums = BlockSums(BLOCK_BYTES)
        reading = await call.namespace.read(call.path, version=info.version)
        try:
            async for piece in reading:
                await sums.update(piece)
        finally:
            await reading.aclose()
    told = {"algorithm": sums.algorithm, "bytes": sums.digest().hex(), "length": len(sums.digest())}
    return json_response({"FileChecksum": told})


async def get_file_block_locations(call: Call) -> Response:
    """Hadoop 3: blocks of 128 MiB, all of them at this node."""
    info = await find_file(call.namespace, call.path)
    place = urlsplit(call.origin).netloc
    host = place.rpartition(":")[0] or place
    blocks = [
        {
            "offset": start, "length": length, "hosts": [host], "names": [place], "cachedHosts": [], "storageIds": [],
            "storageTypes": ["DISK"], "topologyPaths": [f"/default-rack/{place}"], "corrupt": False,
        }
        for start, length in _blocks(call, info)
    ]  # fmt: skip
    return json_response({"BlockLocations": {"BlockLocation": blocks}})


async def get_block_locations(call: Call) -> Response:
    """Hadoop 2: the same as its clients' own library tells it, without places: there is no DataNode to speak to."""
    info = await find_file(call.namespace, call.path)
    blocks = [
        {
            "block": {"blockPoolId": "headrace", "blockId": number, "generationStamp": 1, "numBytes": length},
            "blockToken": _NO_TOKEN, "cachedLocations": [], "isCorrupt": False, "locations": [], "startOffset": start,
        }
        for number, (start, length) in enumerate(_blocks(call, info), 1)
    ]  # fmt: skip
    told = {
        "fileLength": info.size, "isLastBlockComplete": True, "isUnderConstruction": False,
        "lastLocatedBlock": blocks[-1] if blocks else None, "locatedBlocks": blocks,
    }  # fmt: skip
    return json_response({"LocatedBlocks": told})


def _blocks(call: Call, info: ObjectInfo) -> list[tuple[int, int]]:
    """Start and length of the blocks that the wanted range touches."""
    wish = wished_range(call.asked) or ByteRange(0, _FAR)
    first = wish.start // BLOCK_BYTES * BLOCK_BYTES
    starts = range(first, min(info.size, wish.end), BLOCK_BYTES)
    return [(start, min(BLOCK_BYTES, info.size - start)) for start in starts]
