"""ListObjectVersions: the one version of each object that is seen here, in S3's form for buckets without versioning."""

from __future__ import annotations

from collections.abc import Callable

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.context import Call, xml_response
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.listing import ListWish, list_page, read_limit, shown_as
from headrace.gateways.s3.xml import DECLARATION, NAMESPACE, escape, owner_element, timestamp
from headrace.model.objects import Entry, ObjectInfo


async def list_object_versions(call: Call) -> Response:
    """One page. A key has one version, so that whatever version a marker names, the next key follows."""
    target = call.target
    shown = shown_as(target.get("encoding-type"))
    key_marker, id_marker = target.get("key-marker"), target.get("version-id-marker")
    if id_marker and not key_marker:
        raise S3Error("InvalidArgument", "A version-id marker cannot be specified without a key marker.")
    wish = ListWish(
        prefix=target.get("prefix"), delimiter=target.get("delimiter"), limit=read_limit(target, "max-keys"), after=key_marker,
        encode=target.get("encoding-type") == "url", owner=True,
    )  # fmt: skip
    page = await list_page(call, wish)
    last = page.entries[-1] if page.entries else None
    following = f"<NextKeyMarker>{shown(page.after)}</NextKeyMarker>" if page.after is not None else ""
    if following and isinstance(last, ObjectInfo):
        following += f"<NextVersionIdMarker>{escape(_version(last))}</NextVersionIdMarker>"
    return xml_response(
        f"{DECLARATION}<ListVersionsResult {NAMESPACE}><Name>{escape(target.bucket)}</Name><Prefix>{shown(wish.prefix)}</Prefix>"
        + (f"<Delimiter>{shown(wish.delimiter)}</Delimiter>" if wish.delimiter else "")
        + f"<KeyMarker>{shown(key_marker)}</KeyMarker><VersionIdMarker>{escape(id_marker)}</VersionIdMarker>{following}"
        + f"<MaxKeys>{wish.limit}</MaxKeys>"
        + ("<EncodingType>url</EncodingType>" if wish.encode else "")
        + f"<IsTruncated>{'true' if page.after is not None else 'false'}</IsTruncated>"
        + "".join([_entry(entry, shown, owner_element(call.owner_id)) for entry in page.entries])
        + "</ListVersionsResult>"
    )


def _version(info: ObjectInfo) -> str:
    return info.version_id or "null"


def _entry(entry: Entry, shown: Callable[[str], str], owner: str) -> str:
    if not isinstance(entry, ObjectInfo):
        return f"<CommonPrefixes><Prefix>{shown(entry.key)}</Prefix></CommonPrefixes>"
    etag = f"<ETag>&quot;{escape(entry.etag)}&quot;</ETag>" if entry.etag else ""
    return (
        f"<Version><Key>{shown(entry.key)}</Key><VersionId>{escape(_version(entry))}</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{timestamp(int(entry.modified_s))}</LastModified>{etag}<Size>{entry.size}</Size>{owner}"
        f"<StorageClass>{escape(entry.storage_class or 'STANDARD')}</StorageClass></Version>"
    )
