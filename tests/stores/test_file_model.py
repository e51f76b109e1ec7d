"""A directory against the store in memory: random writes under nasty keys, deletes and listings."""

import asyncio
import os
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headrace.model.errors import HeadraceError
from headrace.model.objects import CommonPrefix, ObjectInfo
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.stores.contract import read_all
from headrace.stores.file import FileStore
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store

IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
LETTERS = st.sampled_from(["a", "b", "/", "/", ".", "..", "é", "\x00", "\uff5e", "\U0001f600", "n" * 90, "-"])
KEYS = st.lists(LETTERS, min_size=1, max_size=6).map("".join)
SHORT = st.lists(st.sampled_from(["a", "b", "/"]), min_size=1, max_size=4).map("".join)
KEY = st.one_of(SHORT, KEYS)
TEXT = st.lists(LETTERS, max_size=2).map("".join)


class DirectoryAgainstMemory(RuleBasedStateMachine):
    """Both are asked the same and must answer alike."""

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory(prefix="headrace-model-", dir=IN_MEMORY)
        self.directory = FileStore(self.folder.name, threads=2, window_names=4)
        self.memory = MemoryStore()

    @rule(key=KEY, body=st.binary(max_size=8), kind=st.sampled_from(["", "text/x-a"]), absent=st.booleans())
    def write(self, key: str, body: bytes, kind: str, absent: bool) -> None:
        condition = Condition(if_none_match="*") if absent else Condition()
        told = self._both(lambda store: store.write(key, BytesBody(body), Attributes(kind), condition=condition))
        assert told[0] == told[1]

    @rule(key=KEY)
    def delete(self, key: str) -> None:
        told = self._both(lambda store: store.delete(key))
        assert told == [None, None]

    @rule(key=KEY, other=KEY)
    def copy(self, key: str, other: str) -> None:
        async def copied(store: Store) -> ObjectInfo:
            return await store.copy(await store.info(key), other)

        told = self._both(copied)
        assert told[0] == told[1]

    @rule(key=KEY, tag=st.sampled_from(["1", "2"]))
    def tag(self, key: str, tag: str) -> None:
        told = self._both(lambda store: store.set_tags(key, (("t", tag),)))
        assert told[0] == told[1]

    @rule(
        prefix=st.one_of(TEXT, KEY), delimiter=st.sampled_from(["", "/", "a", "é", "/a"]), after=st.one_of(TEXT, KEY),
        limit=st.sampled_from([1, 2, 1000]),
    )  # fmt: skip
    def list_pages(self, prefix: str, delimiter: str, after: str, limit: int) -> None:
        async def listed(store: Store) -> list[tuple[str, bool, str]]:
            found = []
            start: str | None = after
            while start is not None:
                page = await store.list(prefix, delimiter=delimiter, after=start, limit=limit)
                found += [(e.key, isinstance(e, CommonPrefix), getattr(e, "etag", "")) for e in page.entries]
                start = page.after
            return found

        told = self._both(listed)
        assert told[0] == told[1]

    @invariant()
    def every_object_is_the_same(self) -> None:
        if not hasattr(self, "memory"):
            return

        async def everything(store: Store) -> list[object]:
            entries = (await store.list()).entries
            return [(entry.key, await read_all(store, entry.key), await store.tags(entry.key)) for entry in entries]

        told = self._both(everything)
        assert told[0] == told[1]

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.directory.close())
            self.directory._root.pool.shutdown(wait=True)
            self.folder.cleanup()
            self.loop.close()

    def _both(self, call) -> list[object]:  # type: ignore[no-untyped-def]
        return [self.loop.run_until_complete(self._told(call(store))) for store in (self.directory, self.memory)]

    async def _told(self, call) -> object:  # type: ignore[no-untyped-def]
        try:
            told = await call
        except HeadraceError as error:
            return type(error)
        return (told.key, told.size, told.etag) if isinstance(told, ObjectInfo) else told


TestDirectoryAgainstMemory = DirectoryAgainstMemory.TestCase
TestDirectoryAgainstMemory.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
