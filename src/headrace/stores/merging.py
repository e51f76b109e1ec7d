"""Pages of a cloud's listing, with objects and prefixes apart, merged into one page in key order. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.model.objects import CommonPrefix, Entry, Listing, ObjectInfo
from headrace.stores.keys import rolled_up, text_behind


def page_of(objects: Iterable[ObjectInfo], *, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
    """One page of a store whose objects are all at hand, in any order."""
    found: dict[bytes, Entry] = {}
    for info in objects:
        if info.key.startswith(prefix):
            common = rolled_up(info.key, prefix, delimiter)
            entry = info if common is None else CommonPrefix(common)
            if entry.key.encode() > after.encode():
                found[entry.key.encode()] = entry
    keys = sorted(found)
    entries = tuple([found[key] for key in keys[:limit]])
    return Listing(entries, entries[-1].key if len(keys) > limit and entries else None)


class PageMerger:
    """Takes a store's pages in their order until `limit` entries behind `after` are certain.

    A page is certain up to its last object (up to its last prefix when it has no objects): some
    stores send prefixes ahead of the objects that sort before them. What lies behind waits. Keys that begin with `hidden` are
    left out.
    """

    def __init__(self, prefix: str, delimiter: str, after: str, limit: int, *, hidden: str = "") -> None:
        self._prefix = prefix
        self._after = after
        self._limit = limit
        self._found: dict[bytes, Entry] = {}
        self._certain = b""
        self._hidden = hidden
        # Stores disagree about delimiters of several bytes, so those are rolled up here. So are those that could roll hidden
        # keys up with others.
        mixed = hidden.startswith(prefix) and rolled_up(hidden, prefix, delimiter) not in (None, hidden)
        is_own = len(delimiter.encode()) > 1 or mixed
        self._own_delimiter = delimiter if is_own else ""
        self._delimiter = delimiter
        self.store_delimiter = "" if self._own_delimiter else delimiter
        """The delimiter to ask the store for."""

    def start(self) -> str:
        """Where the store's listing may start (this text included): behind what a CommonPrefix stands for."""
        common = rolled_up(self._after, self._prefix, self._delimiter) if self._after.startswith(self._prefix) else None
        return self._after if common is None else text_behind(common)

    def add(self, objects: Iterable[ObjectInfo], prefixes: Iterable[str]) -> str:
        """The store's next page. Answers where to go on when the next pages would tell nothing new, else nothing."""
        last_object = last_prefix = b""
        common: str | None = None
        is_hidden = False
        for info in objects:
            is_hidden = self._is_hidden(info.key)
            if is_hidden:
                continue
            common = rolled_up(info.key, self._prefix, self._own_delimiter)
            last_object = max(last_object, self._take(info if common is None else CommonPrefix(common)))
        for prefix in prefixes:
            if not self._is_hidden(prefix):
                last_prefix = max(last_prefix, self._take(CommonPrefix(prefix)))
        self._certain = max(self._certain, last_object or last_prefix)
        if is_hidden:
            return text_behind(self._hidden)
        return "" if common is None else text_behind(common)

    def enough(self) -> bool:
        """Whether a full page, and that something follows it, is certain."""
        return len(self._found) > self._limit and sorted(self._found)[self._limit] <= self._certain

    def listing(self) -> Listing:
        """The page. Call when `enough`, or when the store has no more."""
        keys = sorted(self._found)
        entries = tuple([self._found[key] for key in keys[: self._limit]])
        follows = len(keys) > self._limit and bool(entries)
        return Listing(entries, entries[-1].key if follows else None)

    def _is_hidden(self, key: str) -> bool:
        return self._hidden != "" and key.startswith(self._hidden)

    def _take(self, entry: Entry) -> bytes:
        encoded = entry.key.encode()
        if encoded > self._after.encode():
            self._found.setdefault(encoded, entry)
        return encoded
