"""What SeaweedFS does otherwise than S3: it keeps objects as files in directories.

Keys that are no clean paths are answered with the object of another key, and listings come in the
order of directories (`a/b` before `a-b`), so that `start-after` loses keys. Both must be undone here,
because neither shows in a single answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from headrace.model.errors import InvalidKey
from headrace.model.objects import Entry, Listing
from headrace.stores.http import Headers


def is_seaweedfs(headers: Headers) -> bool:
    """Whether an answer comes from SeaweedFS."""
    return headers.get("server", "").startswith("SeaweedFS")


def check_kept(key: str, size: int) -> None:
    """Raises `InvalidKey` for a key that SeaweedFS folds into another one. `dir/` is kept when it is an empty marker."""
    if not is_clean_path(key) or (key.endswith("/") and size > 0):
        raise InvalidKey(f"SeaweedFS cannot keep the key {key!r}: it would answer with another object", path=key)


def is_clean_path(key: str) -> bool:
    """Whether a path of a file system could be called so; a slash at the end is a directory's."""
    return "\\" not in key and not any(segment in ("", ".", "..") for segment in key.removesuffix("/").split("/"))


class SmallestEntries:
    """Of all entries of a listing in any order, the first `limit` behind `after` in key order. Bounded memory."""

    def __init__(self, prefix: str, after: str, limit: int) -> None:
        self._prefix = prefix
        self._after = after.encode()
        self._limit = limit
        self._entries: dict[bytes, Entry] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            encoded = entry.key.encode()
            if encoded > self._after and entry.key.startswith(self._prefix):
                self._entries[encoded] = entry
        if len(self._entries) > self._limit + 1:
            self._entries = {key: self._entries[key] for key in heapq.nsmallest(self._limit + 1, self._entries)}

    def listing(self) -> Listing:
        keys = sorted(self._entries)
        entries = tuple([self._entries[key] for key in keys[: self._limit]])
        return Listing(entries, entries[-1].key if len(keys) > self._limit and entries else None)
