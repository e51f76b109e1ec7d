"""Multipart uploads and buckets as frozen values."""

from __future__ import annotations

import msgspec

from headrace.model.writing import Pairs

MAX_PART_NUMBER = 10_000
MIN_PART_BYTES = 5 * 1024 * 1024
"""What every part but the last must have at least."""


class Upload(msgspec.Struct, frozen=True):
    """A multipart upload that was begun. `key` and `id` name it; a store needs no more to find it again."""

    key: str
    id: str
    begun_s: float = 0.0
    """Seconds since 1970 UTC."""
    checksum: str = ""
    """The algorithm, as `ObjectInfo.checksums` names it, by which every part is checked; empty: none."""
    checksum_type: str = ""
    """`FULL_OBJECT` or `COMPOSITE`; empty without an algorithm."""
    acl: str = ""
    """What it was begun with under `ACL_TAG`, where the store keeps that."""


class Part(msgspec.Struct, frozen=True):
    """A part that the store has, or, to complete an upload, one that the caller names: then `size` is not looked at."""

    number: int
    etag: str
    size: int = 0
    modified_s: float = 0.0
    checksums: Pairs = ()


class PartListing(msgspec.Struct, frozen=True):
    """One page of an upload's parts in the order of their numbers; `after` continues it, None: nothing follows."""

    upload: Upload
    parts: tuple[Part, ...]
    after: int | None = None


class UploadListing(msgspec.Struct, frozen=True):
    """One page of uploads, sorted by the key's UTF-8 bytes, then by their beginning; `after` continues it."""

    uploads: tuple[Upload, ...]
    after: Upload | None = None


class Bucket(msgspec.Struct, frozen=True):
    """A bucket of an account. `created_s` is 0 where the store does not tell."""

    name: str
    created_s: float = 0.0
    acl: str = ""
    """What `Buckets.set_acl` was given; empty: nothing."""
