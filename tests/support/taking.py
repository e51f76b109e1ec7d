"""A store that takes a body whole where it is at hand, as those behind a network do."""

from __future__ import annotations

from headrace.model.errors import Unavailable
from headrace.model.objects import ObjectInfo
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, BytesBody, Condition
from headrace.stores.memory import MemoryStore


class TakingStore(MemoryStore):
    """`taken` tells of each write what was at hand; the first `failures` writes have no answer."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.taken: list[bytes | None] = []
        self._failures = failures

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        data = body.at_hand()
        self.taken.append(None if data is None else bytes(data))
        if self._failures:
            self._failures -= 1
            raise Unavailable("no answer", path=key)
        return await super().write(key, body if data is None else BytesBody(data), attributes, condition=condition)
