"""What a mount with scratch shows of a key: what is here, or else the store's."""

from __future__ import annotations

from functools import partial

from headrace.model.errors import NotFound, Unavailable
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Condition
from headrace.scratch.root import Held, Opened, ScratchRoot
from headrace.stores.file_own import OWN
from headrace.stores.keys import check_key
from headrace.stores.store import Store
from headrace.stores.writes import check_condition


class View:
    """`root` over `inner`."""

    def __init__(self, root: ScratchRoot, inner: Store) -> None:
        self._root = root
        self._inner = inner

    async def look(self, key: str) -> Held | None:
        """The object that is here; None when the store is to be asked. Raises `NotFound` for what was removed, `Lost`."""
        check_key(key)
        return None if is_own(key) else await self._root.run(partial(self._root.look, key), key)

    def opened(self, key: str) -> Opened | None:
        """`look`, in a thread, with the file open."""
        check_key(key)
        return None if is_own(key) else self._root.open_object(key)

    async def may_have(self, key: str) -> bool:
        """Whether the store has an object of that name; where it cannot be asked, it may."""
        try:
            return await self._inner_info(key) is not None
        except Unavailable:
            return True

    async def own_condition(self, key: str, condition: Condition) -> Condition:
        """What must hold of the files here so that `condition` holds of what is shown.

        Raises `ConditionFailed` and `NotFound` for what the store decides.
        """
        if not condition or await self._root.run(partial(self._root.has_record, key), key):
            return condition
        removed = await self._root.run(partial(self._root.is_removed, key), key)
        check_condition(condition, None if removed else await self._inner_info(key), key)
        # What a kill left behind must not count as an object that came meanwhile.
        await self._root.change(partial(self._root.clear, key), key)
        return Condition(if_none_match="*")

    async def _inner_info(self, key: str) -> ObjectInfo | None:
        try:
            return await self._inner.info(key)
        except NotFound:
            return None


def is_own(key: str) -> bool:
    """Whether scratch itself keeps something under that name: it holds no such objects, the store may."""
    return key.partition("/")[0] == OWN
