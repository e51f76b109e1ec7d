"""Showing and settling conflicts."""

from __future__ import annotations

from functools import partial

import msgspec

from headrace.model.errors import NotFound
from headrace.staging.committer import Committer
from headrace.staging.conflicts import Conflict, Conflicts
from headrace.stores.store import Store


class ConflictDesk:
    """The conflicts of a mount whose store is `inner`."""

    def __init__(self, conflicts: Conflicts, committer: Committer, inner: Store) -> None:
        self._conflicts = conflicts
        self._committer = committer
        self._inner = inner

    def open(self) -> list[Conflict]:
        """Writes that met another's at the store and are not settled. Blocks for a file that has changed."""
        return self._conflicts.open()

    async def settle(self, key: str, kept_as: str, *, ours: bool) -> None:
        """End a conflict: what was kept takes the place of the store's object, or is removed. Raises `NotFound`."""
        known = next((c for c in self.open() if (c.key, c.kept_as) == (key, kept_as)), None)
        if known is None:
            raise NotFound(f"{key!r} is in no such conflict: see `headrace conflicts`", path=key)
        if ours and kept_as:
            await self._inner.copy(await self._inner.info(kept_as), key)
        elif ours:
            await self._inner.delete(key)
        if kept_as:
            await self._inner.delete(kept_as)
        settled = msgspec.structs.replace(known, settled=True)
        await self._committer.in_thread(partial(self._conflicts.add, settled))
