"""The XML of S3's writes: what is sent, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from xml.sax.saxutils import escape

import msgspec

from headrace.model.errors import CorruptData
from headrace.model.uploads import Bucket, Part, Upload
from headrace.model.writing import Pairs
from headrace.stores.s3_xml import XmlReader, parse_time, unquote_key

CHECKSUM_NAMES = {
    "crc32": "ChecksumCRC32",
    "crc32c": "ChecksumCRC32C",
    "crc64nvme": "ChecksumCRC64NVME",
    "sha1": "ChecksumSHA1",
    "sha256": "ChecksumSHA256",
}
_ALGORITHMS = {element: name for name, element in CHECKSUM_NAMES.items()}


class Result(msgspec.Struct, frozen=True):
    """The fields of a flat answer such as CopyObjectResult, by their names."""

    fields: dict[str, str]

    @property
    def etag(self) -> str:
        """The entity tag without quotes; empty where the store did not tell."""
        return self.fields.get("ETag", "").strip('"')

    def checksums(self) -> Pairs:
        """The checksums that the answer names, and their type."""
        found = _sums(self.fields)
        if found and self.fields.get("ChecksumType"):
            return (*found, ("type", self.fields["ChecksumType"]))
        return found


class PartsPage(msgspec.Struct, frozen=True):
    """A ListParts answer."""

    parts: tuple[Part, ...]
    truncated: bool
    checksum: str = ""
    checksum_type: str = ""


class ObjectParts(msgspec.Struct, frozen=True):
    """The part of a GetObjectAttributes answer that is about parts; without any where the store tells only how many there are."""

    etag: str
    parts: tuple[Part, ...]


class UploadsPage(msgspec.Struct, frozen=True):
    """A ListMultipartUploads answer, in the server's order; the markers continue it."""

    uploads: tuple[Upload, ...]
    truncated: bool
    key_marker: str = ""
    id_marker: str = ""


def complete_xml(parts: Iterable[Part]) -> bytes:
    """The body that completes an upload out of `parts`."""
    pieces = []
    for part in parts:
        sums = "".join(
            f"<{CHECKSUM_NAMES[name]}>{escape(value)}</{CHECKSUM_NAMES[name]}>"
            for name, value in part.checksums
            if name in CHECKSUM_NAMES
        )
        etag = escape(part.etag)
        pieces.append(f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{etag}&quot;</ETag>{sums}</Part>")
    opening = '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{opening}{''.join(pieces)}</CompleteMultipartUpload>".encode()


def tagging_xml(tags: Pairs) -> bytes:
    """The body that sets `tags`."""
    pairs = "".join(f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags)
    return f'<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet>{pairs}</TagSet></Tagging>'.encode()


def location_xml(region: str) -> bytes:
    """The body that makes a bucket in `region`."""
    opening = '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{opening}<LocationConstraint>{escape(region)}</LocationConstraint></CreateBucketConfiguration>".encode()


def parse_result(body: bytes, root: str) -> Result:
    """A flat answer whose root element is `root`. Raises `CorruptData`."""
    fields: dict[str, str] = {}

    def on_end(path: tuple[str, ...], text: str) -> None:
        if len(path) == 2:
            fields[path[1]] = text

    _read(body, on_end, root)
    return Result(fields)


def parse_parts(body: bytes) -> PartsPage:
    """A ListParts answer. Raises `CorruptData`."""
    top, rows = _rows(body, "ListPartsResult", "Part")
    parts = []
    for row in rows:
        number, size = _number(row.get("PartNumber", "")), _number(row.get("Size", ""))
        modified_s = parse_time(row.get("LastModified", ""))
        parts.append(Part(number, row.get("ETag", "").strip('"'), size, modified_s, _sums(row)))
    truncated = top.get("IsTruncated") == "true"
    return PartsPage(tuple(parts), truncated, top.get("ChecksumAlgorithm", "").lower(), top.get("ChecksumType", ""))


def parse_object_parts(body: bytes) -> ObjectParts:
    """A GetObjectAttributes answer. Raises `CorruptData`."""
    parts: list[Part] = []
    fields: dict[str, str] = {}
    etag = ""

    def on_end(path: tuple[str, ...], text: str) -> None:
        nonlocal etag
        if path[1:3] == ("ObjectParts", "Part") and len(path) == 4:
            fields[path[3]] = text
        elif path[1:] == ("ObjectParts", "Part"):
            sums = _sums(fields)
            parts.append(Part(_number(fields.get("PartNumber", "")), "", _number(fields.get("Size", "")), 0.0, sums))
            fields.clear()
        elif path[1:] == ("ETag",):
            etag = text.strip('"')

    _read(body, on_end, "GetObjectAttributesResponse", "GetObjectAttributesOutput")  # S3 says the first, its manual the second
    return ObjectParts(etag, tuple(parts))


def parse_uploads(body: bytes) -> UploadsPage:
    """A ListMultipartUploads answer whose keys are url-encoded. Raises `CorruptData`."""
    top, rows = _rows(body, "ListMultipartUploadsResult", "Upload")
    encoded = top.get("EncodingType", "url") == "url"
    uploads = []
    for row in rows:
        key = unquote_key(row.get("Key", "")) if encoded else row.get("Key", "")
        begun_s, checksum = parse_time(row.get("Initiated", "")), row.get("ChecksumAlgorithm", "").lower()
        uploads.append(Upload(key, row.get("UploadId", ""), begun_s, checksum, row.get("ChecksumType", "")))
    return UploadsPage(
        tuple(uploads), top.get("IsTruncated") == "true", top.get("NextKeyMarker", ""), top.get("NextUploadIdMarker", "")
    )


def parse_buckets(body: bytes) -> tuple[Bucket, ...]:
    """The buckets of a ListBuckets answer, sorted by name. Raises `CorruptData`."""
    found: list[Bucket] = []
    fields: dict[str, str] = {}

    def on_end(path: tuple[str, ...], text: str) -> None:
        if path[1:3] == ("Buckets", "Bucket") and len(path) == 4:
            fields[path[3]] = text
        elif path[1:] == ("Buckets", "Bucket"):
            found.append(Bucket(fields.pop("Name", ""), parse_time(fields.pop("CreationDate", ""))))
            fields.clear()

    _read(body, on_end, "ListAllMyBucketsResult")
    return tuple(sorted(found, key=lambda bucket: bucket.name.encode()))


def holds_versions(body: bytes) -> bool:
    """Whether a ListObjectVersions answer names any version or delete marker. Raises `CorruptData`."""
    _, rows = _rows(body, "ListVersionsResult", "Version", "DeleteMarker")
    return bool(rows)


def _sums(fields: dict[str, str]) -> Pairs:
    return tuple([(_ALGORITHMS[name], value) for name, value in fields.items() if name in _ALGORITHMS and value])


def _rows(body: bytes, root: str, *names: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    top: dict[str, str] = {}
    rows: list[dict[str, str]] = []
    fields: dict[str, str] = {}

    def on_end(path: tuple[str, ...], text: str) -> None:
        nonlocal fields
        if len(path) == 3:
            fields[path[2]] = text
        elif len(path) == 2:
            if path[1] in names:
                rows.append(fields)
            else:
                top[path[1]] = text
            fields = {}

    _read(body, on_end, root)
    return top, rows


def _read(body: bytes, on_end: Callable[[tuple[str, ...], str], None], *roots: str) -> None:
    seen: list[str] = []

    def note(path: tuple[str, ...], text: str) -> None:
        if len(path) == 1:
            seen.append(path[0])
        on_end(path, text)

    XmlReader(note).feed(body, final=True)
    if len(seen) != 1 or seen[0] not in roots:
        raise CorruptData(f"the store's answer is no {roots[0]}")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise CorruptData(f"the store told {text[:30]!r} where a number must be")
    return int(text)
