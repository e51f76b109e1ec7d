"""ListParts and ListMultipartUploads. Memory is bounded by one page."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.answers import checksum_elements
from headrace.gateways.s3.buckets import require_bucket
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.grants import read_acl
from headrace.gateways.s3.listing import read_limit, shown_as
from headrace.gateways.s3.multipart import named_upload
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape, owner_element, timestamp
from headrace.model.checksums import Algorithm
from headrace.model.uploads import Part, Upload
from headrace.policy.rules import Action
from headrace.stores.keys import rolled_up

_FAR_PAGES = 1000


async def list_parts(call: Call) -> Response:
    """The parts that an upload has so far."""
    target = call.target
    limit, marker = read_limit(target, "max-parts"), _marker(target.get("part-number-marker"))
    page = await call.uploads.parts(named_upload(call), after=marker, limit=max(limit, 1))
    parts = page.parts[:limit]
    truncated = page.after is not None or len(parts) < len(page.parts)
    summed = page.upload.checksum
    about = (
        f"<ChecksumAlgorithm>{Algorithm(summed).name}</ChecksumAlgorithm><ChecksumType>{page.upload.checksum_type}</ChecksumType>"
        if summed
        else ""
    )
    following = f"<NextPartNumberMarker>{parts[-1].number if parts else marker}</NextPartNumberMarker>" if truncated else ""
    return xml_response(
        f"{DECLARATION}<ListPartsResult {NAMESPACE}><Bucket>{escape(target.bucket)}</Bucket><Key>{escape(target.key)}</Key>"
        f"<UploadId>{escape(page.upload.id)}</UploadId>{_owners(call, page.upload)}<StorageClass>STANDARD</StorageClass>"
        f"<PartNumberMarker>{marker}</PartNumberMarker>{following}<MaxParts>{limit}</MaxParts>"
        f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{about}"
        + "".join(_part(part) for part in parts)
        + "</ListPartsResult>"
    )


def _marker(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise S3Error("InvalidArgument", "Argument part-number-marker must be an integer between 0 and 2147483647")
    return int(text)


def _part(part: Part) -> str:
    sums = tuple(pair for pair in part.checksums if pair[0] != "type")
    return (
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{timestamp(int(part.modified_s))}</LastModified>"
        f"<ETag>&quot;{escape(part.etag)}&quot;</ETag><Size>{part.size}</Size>{checksum_elements(sums)}</Part>"
    )


class UploadsWish(msgspec.Struct, frozen=True):
    """What a listing of uploads asks for."""

    prefix: str
    delimiter: str
    key_marker: str
    id_marker: str
    limit: int


class UploadsPage(msgspec.Struct, frozen=True):
    """Its answer. `marker` continues it: a key and an upload's id, which is empty behind a common prefix."""

    uploads: tuple[Upload, ...]
    prefixes: tuple[str, ...]
    marker: tuple[str, str] | None = None


async def list_multipart_uploads(call: Call) -> Response:
    """Uploads under way in a bucket, by key and then by their beginning."""
    target = call.target
    shown = shown_as(target.get("encoding-type"))
    key_marker = target.get("key-marker")
    id_marker = target.get("upload-id-marker") if key_marker else ""
    wish = UploadsWish(target.get("prefix"), target.get("delimiter"), key_marker, id_marker, read_limit(target, "max-uploads"))
    await require_bucket(call)
    page = await _page(call, wish) if wish.limit else UploadsPage((), ())
    marker = page.marker
    following = (
        f"<NextKeyMarker>{shown(marker[0])}</NextKeyMarker><NextUploadIdMarker>{escape(marker[1])}</NextUploadIdMarker>"
        if marker is not None
        else ""
    )
    return xml_response(
        f"{DECLARATION}<ListMultipartUploadsResult {NAMESPACE}><Bucket>{escape(target.bucket)}</Bucket>"
        f"<KeyMarker>{shown(wish.key_marker)}</KeyMarker><UploadIdMarker>{escape(wish.id_marker)}</UploadIdMarker>{following}"
        + (f"<Delimiter>{shown(wish.delimiter)}</Delimiter>" if wish.delimiter else "")
        + f"<Prefix>{shown(wish.prefix)}</Prefix><MaxUploads>{wish.limit}</MaxUploads>"
        + ("<EncodingType>url</EncodingType>" if target.get("encoding-type") else "")
        + f"<IsTruncated>{'true' if marker is not None else 'false'}</IsTruncated>"
        + "".join(_upload(upload, shown, _owners(call, upload)) for upload in page.uploads)
        + "".join(f"<CommonPrefixes><Prefix>{shown(prefix)}</Prefix></CommonPrefixes>" for prefix in page.prefixes)
        + "</ListMultipartUploadsResult>"
    )


async def _page(call: Call, wish: UploadsWish) -> UploadsPage:
    """Uploads that the caller may see, rolled up; one more than is shown is looked for, to know whether anything follows."""
    root = f"/{call.target.bucket}/"
    uploads: list[Upload] = []
    prefixes: list[str] = []
    last = (wish.key_marker, wish.id_marker)
    after = Upload(root + wish.key_marker, wish.id_marker) if wish.key_marker else None
    for _ in range(_FAR_PAGES):
        found = await call.uploads.list(root + wish.prefix, after=after)
        for upload in found.uploads:
            key = upload.key[len(root) :]
            common = rolled_up(key, wish.prefix, wish.delimiter)
            if (key == wish.key_marker and not wish.id_marker) or (common is not None and common in (last[0], wish.key_marker)):
                continue
            if not call.may(Action.LIST, upload.key):
                continue
            if len(uploads) + len(prefixes) == wish.limit:
                return UploadsPage(tuple(uploads), tuple(prefixes), last)
            if common is None:
                uploads.append(msgspec.structs.replace(upload, key=key))
                last = (key, upload.id)
            else:
                prefixes.append(common)
                last = (common, "")
        after = found.after
        if after is None:
            break
    return UploadsPage(tuple(uploads), tuple(prefixes), None if after is None else last)


def _owners(call: Call, upload: Upload) -> str:
    """Who began it, and whose the object will be: the same."""
    owner = read_acl(upload.acl, upload.key).owner or call.owner_id
    return owner_element(owner, "Initiator") + owner_element(owner)


def _upload(upload: Upload, shown: Callable[[str], str], owners: str) -> str:
    summed = upload.checksum
    about = (
        f"<ChecksumAlgorithm>{Algorithm(summed).name}</ChecksumAlgorithm><ChecksumType>{upload.checksum_type}</ChecksumType>"
        if summed
        else ""
    )
    return (
        f"<Upload><Key>{shown(upload.key)}</Key><UploadId>{escape(upload.id)}</UploadId>{owners}"
        f"<StorageClass>STANDARD</StorageClass><Initiated>{timestamp(int(upload.begun_s))}</Initiated>{about}</Upload>"
    )
