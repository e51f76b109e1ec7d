"""What the unfinished multipart uploads of a Google Cloud Storage bucket are kept as.

`uploads/<id>` is the resource of the object to come, as JSON; its metadata says what it is about. `parts/<id>/00001` are the
parts, `parts/<id>/join-…` what was put together of them so far. All lie below the store's own prefix.
"""

from __future__ import annotations

import base64
from datetime import datetime

from headrace.model.uploads import Part, Upload
from headrace.stores.gs_objects import PREFIX, Item, item_info
from headrace.stores.upload_notes import CLAIM, NAMES, Begun, noted_upload, read_claim, read_upload
from headrace.stores.writes import TYPE


class GsBegun(Begun, frozen=True):
    """An upload under way, and the state of its description."""

    generation: str
    metageneration: str

    def same(self) -> dict[str, str]:
        """The condition that nothing happened to it meanwhile."""
        return {"ifGenerationMatch": self.generation, "ifMetagenerationMatch": self.metageneration}


def description(upload: Upload) -> dict[str, object]:
    """The resource of an upload's description."""
    return {"metadata": {PREFIX + name: text for name, text in noted_upload(upload).items()}}


def claim_change(claim: str | None) -> dict[str, object]:
    """What puts `claim` in place of a description's."""
    return {"metadata": {PREFIX + CLAIM: claim}}


def read_description(item: Item) -> GsBegun | None:
    """The upload that a description tells of; None when it is none."""
    texts = {name: item.metadata.get(PREFIX + name) or "" for name in NAMES}
    upload = read_upload(item.name, texts)
    if upload is None:
        return None
    return GsBegun(upload, read_claim(texts), item.generation, item.metageneration)


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
