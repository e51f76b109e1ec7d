"""The two sides of a sync as paths of a namespace: listing one, and finding an object of it."""

from __future__ import annotations

from headrace.control.sync.steps import Seen, SidePage
from headrace.model.objects import ObjectInfo, Version
from headrace.namespace.namespace import Namespace
from headrace.stores.keys import PROOF_NAME


async def side_page(namespace: Namespace, path: str, *, after: str, limit: int) -> SidePage:
    """The objects below the directory `path`, recursively. `after` is a page's. Raises `NotFound` where nothing is mounted."""
    root, prefix = _split(path)
    page = await namespace.list(root, prefix, after=after, limit=limit)
    found = []
    for entry in page.entries:
        key = entry.key[len(prefix) :]
        if isinstance(entry, ObjectInfo) and key and not _is_proof(key):
            found.append(Seen(key, entry.size, entry.etag, entry.version.token, entry.modified_s))
    return SidePage(tuple(found), page.after)


def path_of(side: str, key: str) -> str:
    """Where an object of a side is in the namespace."""
    return f"{side}/{key}"


def seen_as(key: str, info: ObjectInfo) -> Seen:
    """What a listing would show of an object."""
    return Seen(key, info.size, info.etag, info.version.token, info.modified_s)


def described(side: str, seen: Seen) -> ObjectInfo:
    """The object that a listing showed, by its path, as far as the listing knows it."""
    return ObjectInfo(path_of(side, seen.key), seen.size, Version(seen.version), seen.modified_s, seen.etag)


def _split(path: str) -> tuple[str, str]:
    """A listing's root (the first component), and the prefix below it."""
    bucket, _, rest = path.strip("/").partition("/")
    return f"/{bucket}", f"{rest}/" if rest else ""


def _is_proof(key: str) -> bool:
    """Objects of a moment, by which stores are asked whether they obey conditions."""
    return PROOF_NAME in key and key.rpartition("/")[2].startswith(PROOF_NAME)
