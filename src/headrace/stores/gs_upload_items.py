"""What the unfinished multipart uploads of a Google Cloud Storage bucket are kept as.

`uploads/<id>` is the resource of the object to come, as JSON; its metadata says what it is about. `parts/<id>/00001` are the
parts, `parts/<id>/join-…` what was put together of them so far. All lie below the store's own prefix.
"""

from __future__ import annotations

import base64
import re
import secrets
from datetime import datetime

import msgspec

from headrace.model.errors import NoSuchUpload
from headrace.model.uploads import Part, Upload
from headrace.stores.gs_objects import Item, item_info
from headrace.stores.writes import TYPE

_ID = re.compile(r"[0-9a-f]{48}")
_TARGET = "headrace-target"
_CHECKSUM = "headrace-checksum"
CLAIM = "headrace-claim"
"""When a call began to publish the upload, in milliseconds since 1970."""


class Begun(msgspec.Struct, frozen=True):
    """An upload under way, and the state of its description."""

    upload: Upload
    generation: str
    metageneration: str
    claimed_s: float

    def same(self) -> dict[str, str]:
        """The condition that nothing happened to it meanwhile."""
        return {"ifGenerationMatch": self.generation, "ifMetagenerationMatch": self.metageneration}


def new_upload(key: str, now_s: float, checksum: str, checksum_type: str) -> Upload:
    """An upload whose id sorts by its time."""
    return Upload(key, f"{int(now_s * 1e9):016x}{secrets.token_hex(16)}", now_s, checksum, checksum_type)


def check_id(upload: Upload) -> None:
    """Raises `NoSuchUpload` for what no upload is called."""
    if not _ID.fullmatch(upload.id):
        raise no_such(upload)


def no_such(upload: Upload) -> NoSuchUpload:
    """The error for an upload that is not under way."""
    return NoSuchUpload(f"gs {upload.key!r} has no upload {upload.id!r} under way", path=upload.key)


def description(upload: Upload) -> dict[str, object]:
    """The resource of an upload's description."""
    target = base64.urlsafe_b64encode(upload.key.encode()).decode()
    checksum = f"{upload.checksum} {upload.checksum_type}".strip()
    return {"metadata": {_TARGET: target, **({_CHECKSUM: checksum} if checksum else {})}}


def read_description(item: Item) -> Begun | None:
    """The upload that a description tells of; None when it is none."""
    try:
        key = base64.urlsafe_b64decode(item.metadata.get(_TARGET) or "").decode()
    except ValueError:
        return None
    upload_id = item.name.rpartition("/")[2]
    if not key or not _ID.fullmatch(upload_id):
        return None
    checksum, _, kind = (item.metadata.get(_CHECKSUM) or "").partition(" ")
    claim = item.metadata.get(CLAIM) or ""
    upload = Upload(key, upload_id, int(upload_id[:16], 16) / 1e9, checksum, kind)
    claimed_s = int(claim) / 1e3 if claim.isascii() and claim.isdigit() else 0.0
    return Begun(upload, item.generation, item.metageneration, claimed_s)


def with_notes(document: dict[str, object], more: dict[str, object]) -> dict[str, object]:
    """A resource with the metadata of another one added."""
    return document | {"metadata": {**_metadata(document), **_metadata(more)}}


def part_of(item: Item, number: int) -> Part:
    """The part that an object holds."""
    info = item_info(item)
    md5 = base64.b64decode(item.md5_hash).hex() if item.md5_hash else item.generation
    sums = tuple([pair for pair in info.checksums if pair[0] not in (TYPE, "md5")])
    return Part(number, md5, info.size, _modified_s(item), sums)


def _modified_s(item: Item) -> float:
    return datetime.fromisoformat(item.updated).timestamp() if item.updated else 0.0


def _metadata(document: dict[str, object]) -> dict[str, object]:
    found = document.get("metadata")
    return found if isinstance(found, dict) else {}
