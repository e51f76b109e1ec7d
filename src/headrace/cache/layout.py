"""How pages lie in a page directory: names, checksums, footers and sidecars. Pure arithmetic and bytes, no IO.

A segment is `<first 3 hex>/<object id>.w` (the whole object), `.c<index>` (one chunk) or `.p<index>` (one page); indexes
are hex. Beside it may lie `<segment>.sum` (checksums of a segment of several pages), `<segment>.part` (a growing fill) and
`<object id>.pin` (an empty marker: do not evict this object).
"""

from __future__ import annotations

import hashlib
import re
import struct
from enum import StrEnum

import msgspec
import xxhash

FORMAT = 2
"""Format of names, footers and sidecars. A directory of another format is dropped, never read."""

CHUNK_PAGES = 64
"""Pages in a chunk, the unit of sequential fills."""

FOOTER_BYTES = 16
FORMAT_FILE = "FORMAT"
SUM_SUFFIX = ".sum"
PART_SUFFIX = ".part"
PIN_SUFFIX = ".pin"

_FOOTER = struct.Struct("<QIHBB")
_FOOTER_MAGIC = 0x4A52
_SUM_HEAD = struct.Struct("<4sBBHQQ")
_SUM_MAGIC = b"HRsm"
_LAST_PAGE = 0x80
_LAST_MASK = 0x9E3779B97F4A7C15
_LAST_RUN = 1
_NAME = re.compile(r"[0-9a-f]{32}\.(?:w|[cp](?:0|[1-9a-f][0-9a-f]{0,11}))")
_OBJECT_BYTES = 12
MOUNT_BYTES = 4
"""Length of a mount's tag, the end of an object id."""


class Kind(StrEnum):
    """What run of pages a segment holds."""

    WHOLE = "w"
    CHUNK = "c"
    PAGE = "p"


class SegmentName(msgspec.Struct, frozen=True):
    """Which pages of which object a segment file holds. `index` counts chunks or pages; 0 for a whole object."""

    object_id: bytes
    kind: Kind
    index: int = 0

    @property
    def path(self) -> str:
        """Where the segment lies, relative to the page directory."""
        hexed = self.object_id.hex()
        number = "" if self.kind is Kind.WHOLE else f"{self.index:x}"
        return f"{hexed[:3]}/{hexed}.{self.kind.value}{number}"


class Geometry(msgspec.Struct, frozen=True):
    """Sizes in bytes that everything else follows from. `page` is a power of two."""

    page: int

    @property
    def chunk(self) -> int:
        """Bytes of a chunk."""
        return self.page * CHUNK_PAGES

    def pages(self, size: int) -> int:
        """How many pages an object (or run of bytes) of `size` bytes has."""
        return -(-size // self.page)

    def extent(self, name: SegmentName, object_size: int) -> tuple[int, int]:
        """The bytes of the object, from and up to, that the segment holds."""
        if name.kind is Kind.WHOLE:
            return 0, object_size
        unit = self.chunk if name.kind is Kind.CHUNK else self.page
        start = name.index * unit
        return start, min(start + unit, object_size)

    def has_footer(self, length: int) -> bool:
        """Whether a segment of `length` bytes is one page, and so carries its checksum itself."""
        return length <= self.page

    @property
    def format_text(self) -> str:
        """What the FORMAT file of a directory with this geometry holds."""
        return f"headrace pages, format {FORMAT}, page {self.page}, chunk {self.chunk}\n"


class Sums(msgspec.Struct, frozen=True):
    """What a sidecar holds: one checksum for each page of a segment of `length` bytes.

    `last`: the object ends where the segment does. So the object's size can be told from its files alone.
    """

    page: int
    length: int
    checksums: tuple[int, ...]
    last: bool = False


def mount_tag(identity: str) -> bytes:
    """The last bytes of every object id of a mount: its pages can be found by name alone."""
    return hashlib.blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=MOUNT_BYTES).digest()


def object_id(identity: str, key: str, token: str) -> bytes:
    """16 bytes that name one version of one key of one mount: 12 of all three, then `mount_tag(identity)`."""
    text = "\0".join((identity, key, token)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=_OBJECT_BYTES).digest() + mount_tag(identity)


def tag_of(object_id: bytes) -> bytes:
    """The mount's tag in an object id."""
    return object_id[_OBJECT_BYTES:]


def pin_path(object_id: bytes) -> str:
    """Where the marker of a pinned object lies, relative to the page directory."""
    hexed = object_id.hex()
    return f"{hexed[:3]}/{hexed}{PIN_SUFFIX}"


def parse_segment(filename: str) -> SegmentName | None:
    """The segment that a file's own name (without folder) means; None for sidecars, parts, pins and strangers."""
    if not is_segment(filename):
        return None
    return SegmentName(bytes.fromhex(filename[:32]), Kind(filename[33]), int(filename[34:] or "0", 16))


def is_segment(filename: str) -> bool:
    """Whether `parse_segment` has an answer."""
    return _NAME.fullmatch(filename) is not None


def checksum(page: bytes | bytearray | memoryview, object_id: bytes, index: int) -> int:
    """XXH3-64 of a page's bytes, seeded with what page it is: a right page under a wrong name is a bad page."""
    return xxhash.xxh3_64_intdigest(page, int.from_bytes(object_id[:8], "little") ^ index)


def encode_footer(page_checksum: int, length: int, page: int, *, last: bool = False) -> bytes:
    """The 16 bytes behind the data of a segment of one page; `last` when the object ends with it."""
    flags = page.bit_length() - 1 | (_LAST_PAGE if last else 0)
    return _FOOTER.pack(page_checksum ^ (_LAST_MASK if last else 0), length, _FOOTER_MAGIC, FORMAT, flags)


def decode_footer(footer: bytes | memoryview, length: int, page: int) -> int | None:
    """The checksum in a footer; None when it is not a footer of such a page."""
    if len(footer) != FOOTER_BYTES:
        return None
    page_checksum, told, magic, form, page_bits = _FOOTER.unpack(footer)
    if (told, magic, form, 1 << (page_bits & ~_LAST_PAGE)) != (length, _FOOTER_MAGIC, FORMAT, page):
        return None
    # The checksum is kept under a mask where the mark is set, so that a flipped mark is a bad page too.
    return int(page_checksum) ^ (_LAST_MASK if page_bits & _LAST_PAGE else 0)


def is_last(footer: bytes | memoryview) -> bool:
    """Whether a footer that `decode_footer` took says that the object ends with the page."""
    return bool(footer[-1] & _LAST_PAGE)


def encode_sums(sums: Sums) -> bytes:
    """A sidecar's bytes; the last eight are their own checksum."""
    head = _SUM_HEAD.pack(_SUM_MAGIC, FORMAT, sums.page.bit_length() - 1, _LAST_RUN * sums.last, sums.length, len(sums.checksums))
    body = head + struct.pack(f"<{len(sums.checksums)}Q", *sums.checksums)
    return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))


def decode_sums(data: bytes) -> Sums | None:
    """The sidecar in `data`; None when it is damaged or of another format."""
    if len(data) < _SUM_HEAD.size + 8:
        return None
    magic, form, page_bits, last, length, count = _SUM_HEAD.unpack_from(data)
    if (
        (magic, form, last & ~_LAST_RUN) != (_SUM_MAGIC, FORMAT, 0)
        or page_bits > 40
        or len(data) != _SUM_HEAD.size + 8 * count + 8
    ):
        return None
    if struct.unpack_from("<Q", data, len(data) - 8)[0] != xxhash.xxh3_64_intdigest(data[:-8]):
        return None
    page = 1 << page_bits
    if count != -(-length // page):
        return None
    return Sums(page, length, struct.unpack_from(f"<{count}Q", data, _SUM_HEAD.size), bool(last))
