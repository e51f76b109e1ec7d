"""Random histories against a model of one dictionary over another."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import ConditionFailed, Lost, NotFound
from headrace.model.objects import SCRATCH, SCRATCH_LOST, ObjectInfo
from headrace.model.writing import ALWAYS, BytesBody, Condition
from headrace.scratch.store import ScratchFolder, ScratchStore
from headrace.stores.contract_hooks import read_all
from headrace.stores.keys import rolled_up
from headrace.stores.memory import MemoryStore

KEYS = ("a", "a/b", "a/c/d", "b", "b//", "c/x", "é")
LOST, REMOVED = "lost", "removed"

_key = st.sampled_from(KEYS)
_process = st.integers(0, 1)
_step = st.one_of(
    st.tuples(st.just("write"), _process, _key, st.sampled_from(("always", "absent", "same", "other"))),
    st.tuples(st.just("delete"), _process, _key, st.sampled_from(("always", "same", "other"))),
    st.tuples(st.just("lose"), _process, _key, st.just("")),
    st.tuples(st.just("theirs"), _process, _key, st.sampled_from(("put", "delete"))),
    st.tuples(st.just("restart"), _process, _key, st.just("")),
    st.tuples(st.just("list"), _process, _key, st.sampled_from(("", "/"))),
)


def etag(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


class World:
    """Two processes' scratch over one store, and what must be seen of them."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.memory = MemoryStore()
        self.theirs: dict[str, bytes] = {}
        self.ours: dict[str, bytes | str] = {}
        self.stores = [self.opened(), self.opened()]
        self.count = 0

    def opened(self) -> ScratchStore:
        return ScratchStore(self.memory, ScratchFolder(self.folder, 1 << 30, "test"), mount="/m", emit=lambda _: None)

    def shown(self, key: str) -> bytes | str | None:
        ours = self.ours.get(key)
        return None if ours == REMOVED else self.theirs.get(key) if ours is None else ours

    def condition(self, wish: str, key: str) -> Condition:
        shown = self.shown(key)
        same = etag(shown) if isinstance(shown, bytes) else "0" * 32
        return {"always": ALWAYS, "absent": Condition(if_none_match="*"), "same": Condition(if_match=same)}.get(
            wish, Condition(if_match="f" * 32)
        )

    async def step(self, verb: str, process: int, key: str, wish: str) -> None:
        store = self.stores[process]
        if verb == "write":
            self.count += 1
            body = b"%d" % self.count * (self.count % 5 + 1)
            if await self._allowed(store.write(key, BytesBody(body), condition=self.condition(wish, key)), wish, key):
                self.ours[key] = body
        elif verb == "delete":
            beneath = key in self.theirs
            if await self._allowed(store.delete(key, condition=self.condition(wish, key)), wish, key):
                hidden = beneath or self.ours.get(key) == REMOVED
                self.ours.pop(key, None)
                if hidden:
                    self.ours[key] = REMOVED
        elif verb == "lose":
            if isinstance(self.ours.get(key), bytes):
                info = await store.info(key)
                await asyncio.to_thread(store._root.lose, key, info.version.token)
                self.ours[key] = LOST
        elif verb == "theirs":
            if wish == "put":
                self.count += 1
                self.theirs[key] = b"theirs %d" % self.count
                self.memory.put(key, self.theirs[key])
            elif self.theirs.pop(key, None) is not None:
                self.memory.remove(key)
        elif verb == "restart":
            await store.close()
            self.stores[process] = self.opened()
        else:
            await self.check_list(store, wish)

    async def _allowed(self, change: object, wish: str, key: str) -> bool:
        """Makes the change; whether it was made. Fails where the model says otherwise."""
        shown = self.shown(key)
        there = isinstance(shown, bytes)
        expected = {"always": True, "absent": not there, "same": there, "other": False}[wish]
        try:
            await change  # type: ignore[misc]
        except (ConditionFailed, NotFound):
            assert not expected, f"{wish} {key!r} was refused, shown is {shown!r}"
            return False
        assert expected, f"{wish} {key!r} was not refused, shown is {shown!r}"
        return True

    async def check(self) -> None:
        for store in self.stores:
            for key in KEYS:
                shown = self.shown(key)
                seen: bytes | str | None
                try:
                    seen = await read_all(store, key)
                except NotFound:
                    seen = None
                except Lost:
                    seen = LOST
                assert seen == shown, key
        await self.check_list(self.stores[0], "")

    async def check_list(self, store: ScratchStore, delimiter: str) -> None:
        expected: dict[str, str | None] = {}
        for key in sorted(KEYS):
            shown = self.shown(key)
            if shown is None:
                continue
            common = rolled_up(key, "", delimiter)
            kind = SCRATCH_LOST if shown == LOST else SCRATCH if key in self.ours else ""
            expected[common or key] = None if common else kind
        for limit in (2, 1000):
            found: dict[str, str | None] = {}
            after: str | None = ""
            while after is not None:
                page = await store.list(delimiter=delimiter, after=after, limit=limit)
                assert len(page.entries) <= limit
                for entry in page.entries:
                    assert entry.key not in found
                    found[entry.key] = entry.storage_class if isinstance(entry, ObjectInfo) else None
                after = page.after
            assert list(found.items()) == list(expected.items())


@settings(deadline=None, max_examples=60)
@given(st.lists(_step, max_size=30))
def test_histories_agree_with_the_model(steps: list[tuple[str, int, str, str]]) -> None:
    async def run(folder: str) -> None:
        world = World(folder)
        try:
            for step in steps:
                await world.step(*step)
            await world.check()
        finally:
            for store in world.stores:
                await store.close()

    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        asyncio.run(run(folder))
