"""What the unfinished multipart uploads of an Azure container are kept as.

`uploads/<id>` below the store's own prefix is an empty blob with the attributes of the object to come, and tells what it is
for. The parts are blocks that were sent for that blob and are not committed yet: the service drops them a week after the last,
and with the blob. A block's name tells its part, its place within it, and at the part's end what is known of the whole part.
"""

from __future__ import annotations

import base64
import secrets
import struct
from collections.abc import Iterable, Mapping

import msgspec

from headrace.model.checksums import DIGEST_BYTES, Algorithm
from headrace.model.uploads import Part, Upload
from headrace.stores.az_objects import META, PREFIX, Sent
from headrace.stores.az_xml import Block
from headrace.stores.http import HttpResponse
from headrace.stores.upload_notes import NAMES, Begun, HeldPart, noted_upload, read_claim, read_upload

_OWN = tuple([PREFIX + name for name in NAMES])
_NAME = struct.Struct(">HHB6s4s16s32s")
"""Part, place, whether it is the part's last, time in milliseconds, the attempt's nonce, the part's MD5 and checksum."""

LONGEST_DIGEST = 32
"""In bytes: names of blocks have at most 64."""


class AzBegun(Begun, frozen=True):
    """An upload under way, and the state of its blob."""

    etag: str
    properties: tuple[tuple[str, str], ...]
    """The headers that give a blob the properties of the object to come."""
    metadata: tuple[tuple[str, str], ...]
    """And those for its metadata."""


class Attempt(msgspec.Struct, frozen=True):
    """One sending of a part."""

    number: int
    time_ms: int
    nonce: bytes

    def name(self, place: int, *, md5: bytes = b"", digest: bytes = b"") -> str:
        """The name of a block, of the part's last one when the MD5 is given."""
        time = self.time_ms.to_bytes(6, "big")
        return base64.b64encode(_NAME.pack(self.number, place, bool(md5), time, self.nonce, md5, digest)).decode()


class AzHeldPart(HeldPart, frozen=True):
    """A part, and the names of its blocks in their order."""

    names: tuple[str, ...]


def new_attempt(number: int, now_ms: int) -> Attempt:
    """A sending that begins now."""
    return Attempt(number, now_ms, secrets.token_bytes(4))


def description(upload: Upload, claim: str = "") -> Sent:
    """The metadata that describes an upload."""
    return [(META + PREFIX + name, text) for name, text in noted_upload(upload, claim).items()]


def blob_upload(name: str, raw: Mapping[str, str]) -> Upload | None:
    """The upload that a blob of that name, with that metadata, describes; None when it does not."""
    return read_upload(name, _texts(raw))


def read_begun(name: str, raw: Mapping[str, str], response: HttpResponse) -> AzBegun | None:
    """The upload that the answer to a HEAD describes."""
    upload = blob_upload(name, raw)
    if upload is None:
        return None
    kinds = ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language")
    properties = [(f"x-ms-blob-{kind}", response.headers[kind]) for kind in kinds if response.headers.get(kind)]
    metadata = [(META + name, text) for name, text in raw.items() if name not in _OWN]
    etag = response.headers.get("etag", "").strip('"')
    return AzBegun(upload, read_claim(_texts(raw)), etag, tuple(properties), tuple(metadata))


def held_parts(blocks: Iterable[Block], algorithm: str) -> list[AzHeldPart]:
    """The parts that were sent whole, in the order of their numbers; of those sent more than once the last."""
    attempts: dict[Attempt, dict[int, tuple[Block, bytes, bytes]]] = {}
    last: dict[Attempt, int] = {}
    for block in blocks:
        try:
            number, place, is_last, time, nonce, md5, digest = _NAME.unpack(base64.b64decode(block.name))
        except (struct.error, ValueError):
            continue  # another program's
        attempt = Attempt(number, int.from_bytes(time, "big"), nonce)
        attempts.setdefault(attempt, {})[place] = (block, md5, digest)
        if is_last:
            last[attempt] = place
    found: dict[int, AzHeldPart] = {}
    for attempt in sorted(last, key=lambda attempt: (attempt.time_ms, attempt.nonce)):
        places, end = attempts[attempt], last[attempt]
        if all(place in places for place in range(end + 1)):
            found[attempt.number] = _held(attempt, [places[place] for place in range(end + 1)], algorithm)
    return [held for _, held in sorted(found.items())]


def _held(attempt: Attempt, blocks: list[tuple[Block, bytes, bytes]], algorithm: str) -> AzHeldPart:
    _, md5, digest = blocks[-1]
    sums = ((algorithm, base64.b64encode(digest[: DIGEST_BYTES[Algorithm(algorithm)]]).decode()),) if algorithm else ()
    size = sum(block.size for block, _, _ in blocks)
    part = Part(attempt.number, md5.hex(), size, attempt.time_ms / 1e3, sums)
    return AzHeldPart(part, tuple([block.name for block, _, _ in blocks]))


def _texts(raw: Mapping[str, str]) -> dict[str, str]:
    return {name: raw.get(PREFIX + name, "") for name in NAMES}
