"""Objects read by GET: any range, of any or exactly one version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from headrace.model.errors import InvalidRange, VersionChanged
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.stores.http import Headers, HttpReading, HttpResponse, body_range
from headrace.stores.keys import cut_range


def is_version(info: ObjectInfo, version: Version) -> bool:
    """Whether `info` describes `version`, which may come from a listing that knows no version ids."""
    return info.version == version or (bool(info.etag) and version.token == f"etag:{info.etag}")


async def read_object(
    key: str,
    byte_range: ByteRange | None,
    version: Version | None,
    *,
    get: Callable[[], Awaitable[HttpResponse]],
    info: Callable[[str], Awaitable[ObjectInfo]],
    describe: Callable[[str, int, Headers], ObjectInfo],
) -> HttpReading:
    """`Store.read` by one `get` of that range, on the condition that the object is `version`.

    `describe` tells the object from its key, its size and the answer's headers; `info` is asked for the size where the range is
    none that HTTP can say, or the service does not tell how long the object is. Raises what `Store.read` does.
    """
    if byte_range is not None and not 0 <= byte_range.start < byte_range.end:
        cut_range(byte_range, (await info(key)).size, key)
    try:
        response = await get()
    except InvalidRange as error:
        if not error.size:
            cut_range(byte_range, (await info(key)).size, key)
        raise
    try:
        held, size = body_range(response, byte_range)
        cut_range(byte_range, size, key)  # Azurite answers a range right behind the end with nothing
        found = describe(key, size, response.headers)
        if version is not None and not is_version(found, version):
            raise VersionChanged(f"{key!r} is now {found.version.token}, not {version.token}", path=key)
    except BaseException:  # whatever it is: tidied up here, raised on
        response.close()
        raise
    return HttpReading(found, held, response)
