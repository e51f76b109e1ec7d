"""Random writes, removals, outages, restarts and changes behind our back, against a small model of what must come of them."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from headrace.model.clock import SystemClock
from headrace.model.disk import SystemDisk
from headrace.model.errors import ConditionFailed, NotFound, Unavailable
from headrace.model.objects import CommonPrefix, ObjectInfo
from headrace.model.writing import BytesBody, Condition
from headrace.staging.journal import Journal
from headrace.staging.records import ABSENT
from headrace.staging.settings import StagingSettings
from headrace.staging.store import StagedStore
from headrace.stores.contract_hooks import read_all
from headrace.stores.memory import MemoryStore
from support.gates import GatedStore

KEYS = ("a", "a/b", "a/c", "é")
LONG = b"x" * 150_000
T = TypeVar("T")


def etag(body: bytes | None) -> str:
    return ABSENT if body is None else hashlib.md5(body, usedforsecurity=False).hexdigest()


class StagedModel(RuleBasedStateMachine):
    """`there` is what the store has, `queues` what is staged while it is away, `bases` what the first of each replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.memory = MemoryStore()
        self.gate = GatedStore(self.memory)
        self.there: dict[str, bytes] = {}
        self.queues: dict[str, list[bytes | None]] = {}
        self.bases: dict[str, str] = {}
        self.beside: list[bytes] = []
        self.away = False
        self.count = 0
        self.processes = [self.opened(), self.opened()]

    def opened(self) -> StagedStore:
        return self.run(self._open())

    async def _open(self) -> StagedStore:
        journal = Journal(self.folder.name, SystemDisk(), log_bytes=3000)
        store = StagedStore(
            self.gate, self.gate, journal, StagingSettings(), mount="/m", clock=SystemClock(), emit=lambda _: None,
            last_seen=lambda key: etag(self.there.get(key)),
        )  # fmt: skip
        store.start()
        return store

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    def body(self, is_long: bool) -> bytes:
        self.count += 1
        return b"%d " % self.count + (LONG if is_long else b"")

    def staged(self, key: str, body: bytes | None, process: StagedStore) -> None:
        if self.away:
            self.bases.setdefault(key, etag(self.there.get(key)))
            self.queues.setdefault(key, []).append(body)
            return
        self.run(process.drained(key))
        self._settle(key, body)

    def _settle(self, key: str, body: bytes | None) -> None:
        if body is None:
            self.there.pop(key, None)
        else:
            self.there[key] = body

    @rule(key=st.sampled_from(KEYS), which=st.integers(0, 1), is_long=st.booleans())
    def put(self, key: str, which: int, is_long: bool) -> None:
        body = self.body(is_long)
        info = self.run(self.processes[which].write(key, BytesBody(body)))
        assert (info.etag, info.size) == (etag(body), len(body))
        self.staged(key, body, self.processes[which])

    @rule(key=st.sampled_from(KEYS), which=st.integers(0, 1))
    def delete(self, key: str, which: int) -> None:
        self.run(self.processes[which].delete(key))
        self.staged(key, None, self.processes[which])

    @precondition(lambda self: not self.away)
    @rule(key=st.sampled_from(KEYS), which=st.integers(0, 1), right=st.booleans())
    def put_on_condition(self, key: str, which: int, right: bool) -> None:
        body, now = self.body(False), self.there.get(key)
        if now is None:
            condition = Condition(if_none_match="*") if right else Condition(if_match="other")
        else:
            condition = Condition(if_match=etag(now)) if right else Condition(if_none_match="*")
        try:
            self.run(self.processes[which].write(key, BytesBody(body), condition=condition))
        except (ConditionFailed, NotFound):
            assert not right
        else:
            assert right
            self.there[key] = body

    @rule(key=st.sampled_from(KEYS), removes=st.booleans())
    def change_behind_our_back(self, key: str, removes: bool) -> None:
        if not removes:
            self.there[key] = body = b"theirs " + self.body(False)
            self.memory.put(key, body)
        elif key in self.there:
            self.memory.remove(key)
            del self.there[key]

    @precondition(lambda self: self.away)
    @rule(key=st.sampled_from(KEYS), which=st.integers(0, 1), removes=st.booleans(), again=st.booleans())
    def write_what_another_changes(self, key: str, which: int, removes: bool, again: bool) -> None:
        """What random single steps seldom do to one and the same key."""
        self.put(key, which, False)
        self.change_behind_our_back(key, removes)
        if again:
            self.put(key, 1 - which, False)

    @precondition(lambda self: not self.away)
    @rule()
    def the_store_goes_away(self) -> None:
        self.gate.fail(Unavailable("away"))
        self.away = True

    @precondition(lambda self: self.away)
    @rule()
    def the_store_comes_back(self) -> None:
        self.gate.heal()
        self.away = False
        for process in self.processes:
            process.retry_now()
        self.run(self.processes[0].drained("", below=True))
        for key, queue in self.queues.items():
            expected = self.bases[key]
            for body in queue:
                now = etag(self.there.get(key))
                if body is None and now == ABSENT:
                    expected = ABSENT
                    continue
                if now == expected:
                    self._settle(key, body)
                elif body is not None:
                    self.beside.append(body)
                expected = etag(body)
        self.queues.clear()
        self.bases.clear()

    @rule(which=st.integers(0, 1))
    def a_process_starts_anew(self, which: int) -> None:
        self.run(self.processes[which].close())
        self.processes[which] = self.opened()

    def shown(self) -> dict[str, bytes]:
        """What readers must see."""
        shown = dict(self.there)
        for key, queue in self.queues.items():
            shown.pop(key, None)
            if queue[-1] is not None:
                shown[key] = queue[-1]
        return shown

    @invariant()
    def every_process_shows_what_was_acknowledged(self) -> None:
        shown = self.shown()
        for process in self.processes:
            for key in KEYS:
                if self.away and key not in self.queues:
                    continue
                if key in shown:
                    assert self.run(process.info(key)).etag == etag(shown[key])
                    assert self.run(read_all(process, key)) == shown[key]
                else:
                    with pytest.raises(NotFound):
                        self.run(process.info(key))

    @invariant()
    def listings_show_it_too(self) -> None:
        if self.away:
            self.gate.heal_reads()
        for limit in (1, 1000):
            found: list[str] = []
            prefixes: list[str] = []
            for delimiter, into in (("", found), ("/", prefixes)):
                after: str | None = ""
                while after is not None:
                    page = self.run(self.processes[0].list(delimiter=delimiter, after=after, limit=limit))
                    into += [
                        entry.key for entry in page.entries if isinstance(entry, (CommonPrefix if delimiter else ObjectInfo))
                    ]
                    after = page.after
            mine = [key for key in found if ".conflict-" not in key]
            assert mine == sorted(self.shown(), key=str.encode)
            expected = {"a/"} if any(key.startswith("a/") for key in found) else set()
            assert set(prefixes) == expected
            assert len(prefixes) == len(set(prefixes))
        if self.away:
            self.gate.fail(Unavailable("away"))

    @invariant()
    def what_met_anothers_is_kept_beside_it(self) -> None:
        if self.away:
            return
        names = [entry.key for entry in self.run(self.memory.list()).entries]
        kept = [self.memory.body(key) for key in names if ".conflict-" in key]
        assert sorted(kept) == sorted(self.beside)

    def teardown(self) -> None:
        for process in self.processes:
            self.run(process.close())
        self.loop.close()
        assert not self.away or self.folder
        self.folder.cleanup()


def run_model(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        StagedModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_random_histories_come_out_as_the_model_says() -> None:
    run_model(25, 25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_long_random_histories_come_out_as_the_model_says() -> None:
    run_model(40, 40)
