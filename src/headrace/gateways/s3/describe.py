"""The header lines that describe an object, rendered once for each version and kept while it is asked for."""

from __future__ import annotations

from headrace.gateways.http.dates import format_date
from headrace.gateways.http.messages import render_fields
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Reading, Served

_MAX_KEPT = 8192
_SERVED = {served: f"x-headrace-cache: {served.value}\r\n".encode() for served in Served}
_DEFAULT_TYPE = "binary/octet-stream"

Overrides = tuple[tuple[str, str], ...]


def object_pairs(info: ObjectInfo, overrides: Overrides = ()) -> list[tuple[str, str]]:
    """Headers that describe an object whichever of its bytes are sent."""
    named = {"content-type": info.content_type or _DEFAULT_TYPE, **dict(info.headers), **dict(overrides)}
    pairs = [("accept-ranges", "bytes"), ("last-modified", format_date(int(info.modified_s))), *named.items()]
    if info.etag:
        pairs.append(("etag", f'"{info.etag}"'))
    if info.version_id and info.version_id != "null":
        pairs.append(("x-amz-version-id", info.version_id))
    if info.storage_class and info.storage_class != "STANDARD":
        pairs.append(("x-amz-storage-class", info.storage_class))
    if info.tag_count:
        pairs.append(("x-amz-tagging-count", str(info.tag_count)))
    pairs.extend((f"x-amz-meta-{name}", value) for name, value in info.metadata)
    return pairs


def checksum_pairs(info: ObjectInfo) -> list[tuple[str, str]]:
    """Stored checksums, for callers who asked for them."""
    return [(f"x-amz-checksum-{name}", value) for name, value in info.checksums]


def served_fields(reading: Reading) -> bytes:
    """How this answer was served."""
    return _SERVED[reading.served] + b"age: %d\r\n" % reading.age_s


def content_range(cut: ByteRange, size: int) -> bytes:
    return b"content-range: bytes %d-%d/%d\r\n" % (cut.start, cut.end - 1, size)


class Descriptions:
    """Rendered headers by path, each valid for the very `ObjectInfo` it was made from."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ObjectInfo, bytes]] = {}

    def of(self, path: str, info: ObjectInfo) -> bytes:
        """The header lines of `info`; rendered again only when the store's answer is a new one."""
        kept = self._kept.get(path)
        if kept is not None and kept[0] is info:
            return kept[1]
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        rendered = render_fields(object_pairs(info))
        self._kept[path] = (info, rendered)
        return rendered
