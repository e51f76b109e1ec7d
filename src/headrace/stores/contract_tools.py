"""What the test of a store that takes writes says about it, and what its suite is made with."""
# ruff: noqa: S101 - a test suite asserts

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import product

from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.uploads import MIN_PART_BYTES
from headrace.model.writing import Attributes, Body, Condition
from headrace.stores.contract_hooks import StoreHooks, body_of
from headrace.stores.store import Store
from headrace.stores.writes import COMPOSITE, FULL_OBJECT

OTHER_ETAG = "0123456789abcdef0123456789abcdef"
ATTRIBUTES = Attributes(
    content_type="text/x-headrace; charset=utf-8",
    headers=(("cache-control", "max-age=60"), ("content-disposition", 'attachment; filename="a b"'), ("content-language", "de")),
    metadata=(("empty-not", "x"), ("owner", "me, myself")),
    tags=(("a", "1"), ("b c", "+/=")),
)
PIECE = bytes(range(256)) * 517


class BoomError(Exception):
    """What a failing body raises: no error of ours, so that it is seen to pass unchanged."""


async def agree(store: Store, key: str, data: bytes) -> ObjectInfo:
    """Every verb says at once that `key` holds `data`, and all say the same of it."""
    info = await store.info(key)
    reading = await store.read(key)
    (listed,) = [entry for entry in (await store.list(key)).entries if entry.key == key]
    assert isinstance(listed, ObjectInfo)
    for other in (reading.info, listed):
        assert (other.key, other.size, other.version, other.etag) == (info.key, info.size, info.version, info.etag)
    assert info.size == len(data)
    assert await body_of(reading) == data
    return info


PART_CHECKSUMS = (
    ("crc32", COMPOSITE),
    ("crc32", FULL_OBJECT),
    ("crc32c", COMPOSITE),
    ("crc64nvme", FULL_OBJECT),
    ("sha1", COMPOSITE),
    ("sha256", COMPOSITE),
)
CONDITIONS = tuple(product(("", "*", "right", "wrong"), repeat=2))
"""Of `if_match` and `if_none_match`; `right` and `wrong` stand for the object's ETag and another."""


def condition_of(names: tuple[str, str], etag: str) -> Condition:
    """The condition that a pair of `CONDITIONS` stands for."""
    values = {"": "", "*": "*", "right": etag or OTHER_ETAG, "wrong": OTHER_ETAG}
    return Condition(values[names[0]], values[names[1]])


class WritingHooks(StoreHooks):
    """What the test of a store that takes writes says about it besides. Every flag that is changed has its reason beside it."""

    keeps_attributes = True
    """False where content types, content headers and user metadata are lost."""
    keeps_tags = True
    """False where tags are lost; then `set_tags` raises `Unsupported`."""
    etag_is_md5 = True
    """False where the ETag of an object that was written whole is not the hex MD5 of its bytes."""
    keeps_checksums = True
    """False where checksums that come with a body are lost."""
    keeps_part_bounds = True
    """False where `Store.part` cannot tell where the parts of a completed upload begin."""
    remembers_parts = True
    """False where `Multipart.parts_of` is `Unsupported`."""
    remembers_part_checksums = True
    """False where it tells of parts without their checksums."""
    remembers_completed = True
    """False where completing an upload again is `NoSuchUpload`."""
    settles_races = True
    """False where two changes of one key at the same time may both be told that they won."""
    min_part_bytes = MIN_PART_BYTES
    """What the store's multipart uploads want of every part but the last; 0: anything will do."""
    part_checksums: tuple[tuple[str, str], ...] = PART_CHECKSUMS
    """Checksums of multipart objects that the store keeps: the algorithm and the type."""

    def written(self, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that can be written through the store and kept side by side, in the same order."""
        return list(keys)

    def takes(self, verb: str, condition: Condition) -> bool:  # noqa: ARG002  most take all
        """Whether the store can evaluate the condition for `write`, `copy`, `delete` or `complete`; else it is `Unsupported`."""
        return True

    async def left_behind(self) -> Sequence[str]:
        """What the store keeps somewhere that belongs to no object and no upload."""
        return ()


class PiecesBody(Body):
    """A body of pieces that may lie about its length, or fail at its end."""

    def __init__(self, pieces: Iterable[Buffer], length: int | None = None, *, error: Exception | None = None) -> None:
        self.length = length
        self._pieces = pieces
        self._error = error

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for piece in self._pieces:
            yield piece
            await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
