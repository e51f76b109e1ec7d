"""What a cloud's store notes beside an object, as short ASCII text for its metadata: checksums, parts, tags, other headers.

Whoever writes metadata there may have written what stands under these names: text that cannot be read says nothing.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from urllib.parse import parse_qsl, urlencode

import msgspec

from headrace.model.checksums import DIGEST_BYTES, Algorithm
from headrace.model.uploads import MAX_PART_NUMBER, Part
from headrace.model.writing import Pairs

CHECKSUMS = "checksums"
HEADERS = "headers"
PARTS = "parts"
TAGS = "tags"
UPLOAD = "upload"
NAMES = (CHECKSUMS, HEADERS, PARTS, TAGS, UPLOAD)
CONTENT_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language")
"""Headers that the clouds keep by themselves; others are noted."""

_MAX_PARTS_CHARS = 3000
"""The clouds keep 8 KiB of metadata with an object, of which S3's own bound leaves 6 KiB."""

_RUN = re.compile(r"(\d{1,15})(?:\*(\d{1,5}))?")


class Kept(msgspec.Struct, frozen=True):
    """What is noted with an object."""

    checksums: Pairs = ()
    headers: Pairs = ()
    """Content headers that the service does not know."""
    parts: int = 0
    part_sizes: tuple[int, ...] = ()
    """Empty where there were too many to note."""
    part_checksums: tuple[Pairs, ...] = ()
    tags: Pairs = ()
    upload: str = ""
    """Which multipart upload the object was completed from, and with which parts."""

    def named_parts(self) -> tuple[Part, ...]:
        """The parts, numbered from 1, as far as they are known."""
        sums = self.part_checksums or ((),) * len(self.part_sizes)
        sized = enumerate(zip(self.part_sizes, sums, strict=True), 1)
        return tuple([Part(number, "", size, checksums=pairs) for number, (size, pairs) in sized])


NOTHING = Kept()


def kept_of_parts(parts: Sequence[Part], algorithm: str, checksums: Pairs, upload: str) -> Kept:
    """What is noted with an object that `parts` were joined to."""
    sums = tuple([tuple([pair for pair in part.checksums if pair[0] == algorithm]) for part in parts])
    sizes = tuple([part.size for part in parts])
    return Kept(checksums, (), len(parts), sizes, sums if algorithm and all(sums) else (), upload=upload)


def noted(kept: Kept) -> dict[str, str]:
    """The texts to keep, by the names in `NAMES`."""
    texts = {
        CHECKSUMS: " ".join([f"{name}:{value}" for name, value in kept.checksums]),
        HEADERS: urlencode(kept.headers),
        PARTS: _parts_text(kept),
        TAGS: urlencode(kept.tags),
        UPLOAD: kept.upload,
    }
    return {name: text for name, text in texts.items() if text}


def read_notes(texts: Mapping[str, str]) -> Kept:
    """What `noted` made such texts of."""
    count, sizes, sums = _read_parts(texts.get(PARTS, ""))
    pairs = [text.partition(":") for text in texts.get(CHECKSUMS, "").split()]
    checksums = tuple([(name, value) for name, _, value in pairs if value])
    return Kept(
        checksums,
        _read_pairs(texts.get(HEADERS, "")),
        count,
        sizes,
        sums,
        tuple(sorted(_read_pairs(texts.get(TAGS, "")))),
        texts.get(UPLOAD, ""),
    )


def fingerprint(upload_id: str, parts: Iterable[Part]) -> str:
    """Tells an upload that was completed from these parts from every other."""
    named = "\n".join([f"{part.number} {part.etag}" for part in parts])
    return f"{upload_id}.{blake2b(named.encode(), digest_size=12).hexdigest()}"


def _parts_text(kept: Kept) -> str:
    if not kept.parts:
        return ""
    runs = [(size, len(list(same))) for size, same in groupby(kept.part_sizes)]
    sizes = ",".join([f"{size}*{count}" if count > 1 else f"{size}" for size, count in runs])
    if not sizes or len(sizes) > _MAX_PARTS_CHARS:
        return f"?{kept.parts}"
    if not kept.part_checksums:
        return sizes
    digests = b64encode(b"".join([b64decode(pairs[0][1]) for pairs in kept.part_checksums])).decode()
    text = f"{sizes} {kept.part_checksums[0][0][0]}:{digests}"
    return text if len(text) <= _MAX_PARTS_CHARS else sizes


def _read_parts(text: str) -> tuple[int, tuple[int, ...], tuple[Pairs, ...]]:
    if text.startswith("?") and text[1:].isascii() and text[1:].isdigit() and len(text) < 7:
        return int(text[1:]), (), ()
    runs, _, sums = text.partition(" ")
    sizes: list[int] = []
    for run in runs.split(",") if runs else ():
        match = _RUN.fullmatch(run)
        if match is None or len(sizes) + int(match[2] or 1) > MAX_PART_NUMBER:
            return 0, (), ()
        sizes.extend([int(match[1])] * int(match[2] or 1))
    return len(sizes), tuple(sizes), _read_sums(sums, len(sizes))


def _read_sums(text: str, count: int) -> tuple[Pairs, ...]:
    name, _, encoded = text.partition(":")
    try:
        width, data = DIGEST_BYTES[Algorithm(name)], b64decode(encoded, validate=True)
    except ValueError:
        return ()
    if len(data) != width * count:
        return ()
    digests = [data[at : at + width] for at in range(0, len(data), width)]
    return tuple([((name, b64encode(digest).decode()),) for digest in digests])


def _read_pairs(text: str) -> Pairs:
    try:
        return tuple(parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")) if text else ()
    except ValueError:
        return ()
