"""What is noted of a multipart upload that a cloud keeps as an object: its key, its checksum, and when a call claimed it.

The notes are short ASCII text for metadata. Whoever writes there may have written what stands under these names: text that
cannot be read describes no upload.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

import msgspec

from headrace.model.errors import NoSuchUpload
from headrace.model.uploads import Part, Upload

TARGET = "target"
CHECKSUM = "checksum"
CLAIM = "claim"
"""When a call began to publish the upload, in milliseconds since 1970."""

NAMES = (TARGET, CHECKSUM, CLAIM)
_ID = re.compile(r"[0-9a-f]{48}")


class Begun(msgspec.Struct, frozen=True):
    """An upload under way."""

    upload: Upload
    claimed_s: float
    """When a call began to publish it, in seconds since 1970; 0 when none did."""


class HeldPart(msgspec.Struct, frozen=True):
    """A part that is there."""

    part: Part


def new_upload(key: str, now_s: float, checksum: str, checksum_type: str) -> Upload:
    """An upload whose id sorts by its time."""
    return Upload(key, f"{int(now_s * 1e9):016x}{secrets.token_hex(16)}", now_s, checksum, checksum_type)


def check_id(upload: Upload) -> None:
    """Raises `NoSuchUpload` for what no upload is called."""
    if not _ID.fullmatch(upload.id):
        raise no_such(upload)


def no_such(upload: Upload) -> NoSuchUpload:
    """The error for an upload that is not under way."""
    return NoSuchUpload(f"{upload.key!r} has no upload {upload.id!r} under way", path=upload.key)


def noted_upload(upload: Upload, claim: str = "") -> dict[str, str]:
    """The texts to keep, by the names in `NAMES`."""
    checksum = f"{upload.checksum} {upload.checksum_type}".strip()
    told = {TARGET: urlsafe_b64encode(upload.key.encode()).decode(), CHECKSUM: checksum, CLAIM: claim}
    return {name: text for name, text in told.items() if text}


def read_upload(name: str, texts: Mapping[str, str]) -> Upload | None:
    """The upload that an object called `name` describes with these texts; None when it does not."""
    try:
        key = urlsafe_b64decode(texts.get(TARGET, "")).decode()
    except ValueError:
        return None
    upload_id = name.rpartition("/")[2]
    if not key or not _ID.fullmatch(upload_id):
        return None
    checksum, _, kind = texts.get(CHECKSUM, "").partition(" ")
    return Upload(key, upload_id, int(upload_id[:16], 16) / 1e9, checksum, kind)


def read_claim(texts: Mapping[str, str]) -> float:
    """`Begun.claimed_s`."""
    claim = texts.get(CLAIM, "")
    return int(claim) / 1e3 if claim.isascii() and claim.isdigit() else 0.0
