"""Listings with what was written and removed here laid over what the store lists."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice

from headrace.model.objects import CommonPrefix, Entry, Listing, ObjectInfo
from headrace.scratch.records import HIDDEN, WRITTEN, Touch, any_records, touch_of
from headrace.scratch.root import ScratchRoot
from headrace.stores.beneath import open_beneath
from headrace.stores.file_keys import odd_start, walk_odd
from headrace.stores.file_listing import WINDOW_NAMES, Tree, Windows
from headrace.stores.file_own import odd_key
from headrace.stores.file_root import opened_root
from headrace.stores.store import Store

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


class Overlay:
    """The listings of one mount. Memory is bounded by the page, and by what windows of folders keep."""

    def __init__(self, root: ScratchRoot, inner: Store) -> None:
        self._root = root
        self._inner = inner
        self._written = Windows(WINDOW_NAMES)
        self._hidden = Windows(WINDOW_NAMES)

    async def page(self, prefix: str, *, delimiter: str, after: str, limit: int) -> Listing:
        """`Store.list`."""
        position: str | None = after
        while position is not None:
            beneath = await self._inner.list(prefix, delimiter=delimiter, after=position, limit=limit)
            here = await self._root.run(partial(self._here, prefix, delimiter, position, limit), prefix)
            horizon = min((page.after for page in (beneath, here) if page.after is not None), default=None)
            entries = {entry.key: entry for entry in await self._shown(beneath, here, prefix)}
            merged = sorted(key for key in entries if horizon is None or key <= horizon)
            if len(merged) > limit:
                return Listing(tuple([entries[key] for key in merged[:limit]]), merged[limit - 1])
            if merged or horizon is None:
                return Listing(tuple([entries[key] for key in merged]), horizon)
            position = horizon
        return Listing(())

    async def _shown(self, beneath: Listing, here: Listing, prefix: str) -> list[Entry]:
        """What of two pages is shown; what is here comes last, to take the place of the store's."""
        names = {entry.key for entry in here.entries}
        objects = [entry.key for entry in beneath.entries if isinstance(entry, ObjectInfo) and entry.key not in names]
        prefixes = [entry.key for entry in beneath.entries if isinstance(entry, CommonPrefix) and entry.key not in names]
        touched = await self._root.run(partial(self._touched, objects), prefix)
        dubious = await self._root.run(partial(self._hiding, prefixes), prefix)
        gone = {*touched, *[common for common in dubious if not await self._survives(common)]}
        since = [entry for entry in touched.values() if entry is not None]
        return [*(entry for entry in beneath.entries if entry.key not in gone), *since, *here.entries]

    async def _survives(self, common: str) -> bool:
        """Whether anything that the store has below a common prefix was not removed here."""
        after: str | None = ""
        while after is not None:
            page = await self._inner.list(common, after=after)
            keys = [entry.key for entry in page.entries]
            touched = await self._root.run(partial(self._touched, keys), common)
            if len(touched) < len(keys) or any(entry is not None for entry in touched.values()):
                return True
            after = page.after
        return False

    def _here(self, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
        """What was written here, lost or not; in a thread."""
        with opened_root(self._root) as root_fd, self._tree(root_fd, WRITTEN) as tree:
            if tree is None:
                return Listing(())
            with closing(_walk(tree, self._written, prefix, delimiter, after)) as found:
                entries = list(islice(found, limit + 1))
            described = [
                entry if isinstance(entry, CommonPrefix) else self._root.described(root_fd, entry.key)
                for entry in entries[:limit]
            ]
            shown = tuple([entry for entry in described if entry is not None])
            last = entries[limit - 1].key if len(entries) > limit and limit else None
            if last is not None:
                self._written.continue_at(odd_start(prefix, delimiter, last))
            return Listing(shown, last)

    def _touched(self, objects: list[str]) -> dict[str, Entry | None]:
        """Those of the store's objects that were touched here: as they are since they were written, None for removed ones."""
        found: dict[str, Entry | None] = {}
        with opened_root(self._root) as root_fd:
            if not any_records(root_fd):
                return found
            for key in objects:
                touched = touch_of(root_fd, key)
                if touched is Touch.WRITTEN:  # since the page of what was written was read
                    found[key] = self._root.described(root_fd, key)
                elif touched is Touch.REMOVED:
                    found[key] = None
        return found

    def _hiding(self, prefixes: list[str]) -> list[str]:
        """Those of the store's common prefixes below which anything was removed here."""
        with opened_root(self._root) as root_fd, self._tree(root_fd, HIDDEN) as tree:
            return [] if tree is None else [common for common in prefixes if self._is_above(tree, common)]

    def _is_above(self, tree: Tree, common: str) -> bool:
        with closing(_walk(tree, self._hidden, common, "", "")) as found:
            return next(found, None) is not None

    @contextmanager
    def _tree(self, root_fd: int, path: str) -> Iterator[Tree | None]:
        """A tree of records; None while there is none."""
        try:
            descriptor = open_beneath(root_fd, path, _FOLDER)
        except FileNotFoundError:
            yield None
            return
        try:
            yield Tree(descriptor, root_fd, keeps=False, beside=False, key_of=odd_key)
        finally:
            os.close(descriptor)


def _walk(tree: Tree, windows: Windows, prefix: str, delimiter: str, after: str) -> Generator[Entry]:
    yield from walk_odd(tree, windows, prefix, delimiter, after)
