"""Random operations on a cached store against the simplest model: a body is one version the key had in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from headrace.model.errors import CorruptData, InvalidRange, NotFound, Unavailable, VersionChanged
from headrace.model.objects import ByteRange
from headrace.stores.faulty import Fault, FaultyStore
from headrace.stores.memory import MemoryStore
from support.caching import CHUNK, PAGE, Rig, body_of, ready_bytes

KEYS = ("a", "b", "dir/c")
SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, CHUNK, CHUNK + 7, 2 * CHUNK + PAGE)
BOUND_S = 30.0
FAULTS = (
    Fault(error=Unavailable("injected")),
    Fault(cut_at=100),
    Fault(extra=b"x"),
    Fault(silent_cut_at=PAGE),
    Fault(wrong_version="etag:z"),
)


class CachedStoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="headrace-model-"))
        self.loop = asyncio.new_event_loop()
        self.memory = MemoryStore()
        self.faulty = FaultyStore(self.memory)
        self.draw = random.Random(1)
        self.history: dict[str, list[tuple[float, bytes | None]]] = {key: [(0.0, None)] for key in KEYS}
        self.faulted = False

        async def make() -> Rig:
            return Rig(self.home, self.faulty)

        self.rig = self.loop.run_until_complete(make())

    def teardown(self) -> None:
        self.loop.run_until_complete(self.rig.pages.close())
        self.loop.close()
        # A fill that was given up may take its own file away meanwhile.
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.home)
                break

    def allowed(self, key: str) -> list[bytes | None]:
        """What a read that starts now may answer: what was there at some time of the last `BOUND_S` seconds."""
        now = self.rig.clock.monotonic()
        history = self.history[key]
        return [body for n, (_, body) in enumerate(history) if n + 1 == len(history) or history[n + 1][0] >= now - BOUND_S]

    @rule(key=st.sampled_from(KEYS), size=st.sampled_from(SIZES))
    def overwrite(self, key: str, size: int) -> None:
        body = self.draw.randbytes(size)
        self.memory.put(key, body)
        self.history[key].append((self.rig.clock.monotonic(), body))

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        if self.history[key][-1][1] is not None:
            self.memory.remove(key)
            self.history[key].append((self.rig.clock.monotonic(), None))

    @rule(seconds=st.sampled_from((0.5, 10.0, 31.0)))
    def wait(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @rule(key=st.sampled_from(KEYS), start=st.integers(0, 2 * CHUNK), length=st.sampled_from((1, 100, PAGE, 5 * PAGE, CHUNK)))
    def read_range(self, key: str, start: int, length: int) -> None:
        self.loop.run_until_complete(self.check(key, ByteRange(start, start + length)))

    @rule(key=st.sampled_from(KEYS), together=st.sampled_from((1, 4)))
    def read_all(self, key: str, together: int) -> None:
        async def many() -> None:
            await asyncio.gather(*(self.check(key, None) for _ in range(together)))
            await self.rig.settled()

        self.loop.run_until_complete(many())
        self.faulted = self.faulted and not self.faulty.injected

    async def check(self, key: str, byte_range: ByteRange | None) -> None:
        allowed = self.allowed(key)
        start, end = (byte_range.start, byte_range.end) if byte_range else (0, None)
        faults = len(self.faulty.injected)
        try:
            reading = self.rig.store.peek(key, byte_range)
            if reading is not None:
                got = ready_bytes(reading)
            else:
                reading = await self.rig.store.read(key, byte_range)
                got = await body_of(reading)
        except NotFound:
            assert None in allowed
        except InvalidRange:
            assert any(body is not None and start >= len(body) for body in allowed)
        except VersionChanged:
            assert len(self.history[key]) > 1
        except (Unavailable, CorruptData):
            assert self.faulted or len(self.faulty.injected) > faults
        else:
            assert got in [body[start:end] for body in allowed if body is not None]

    @rule(share=st.sampled_from((0.3, 1.0)))
    def evict(self, share: float) -> None:
        for path in self.rig.segment_files():
            if self.draw.random() < share and path.is_file():
                path.unlink()

    @rule(how=st.sampled_from(("flip", "truncate", "directory")))
    def damage(self, how: str) -> None:
        self.loop.run_until_complete(self.rig.settled())
        for path in self.rig.segment_files():
            if self.draw.random() < 0.5 or not path.is_file() or not path.stat().st_size:
                continue
            if how == "flip":
                with path.open("r+b") as file:
                    place = self.draw.randrange(path.stat().st_size)
                    file.seek(place)
                    old = file.read(1)
                    file.seek(place)
                    file.write(bytes([old[0] ^ 0x10]))
            elif how == "truncate":
                os.truncate(path, self.draw.randrange(path.stat().st_size))
            else:
                path.unlink()
                path.mkdir()

    @rule(fault=st.sampled_from(FAULTS))
    def store_fault(self, fault: Fault) -> None:
        self.faulty.heal()
        self.faulty.injected.clear()
        self.faulty.add(fault)
        self.faulted = True

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.rig.restart())

    @rule(key=st.sampled_from(KEYS))
    def reader_leaves(self, key: str) -> None:
        async def leave() -> None:
            try:
                reading = await self.rig.store.read(key)
            except (NotFound, Unavailable, VersionChanged, CorruptData):
                return
            await reading.aclose()

        self.loop.run_until_complete(leave())

    @invariant()
    def fills_hold_no_memory_when_over(self) -> None:
        if not len(self.rig.pages.fills):
            assert self.rig.pages.fills.held_bytes == 0


def _runs(examples: int, steps: int) -> settings:
    return settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck))


def test_every_answer_is_one_the_model_allows() -> None:
    run_state_machine_as_test(CachedStoreMachine, settings=_runs(40, 25))


@pytest.mark.slow
def test_every_answer_is_one_the_model_allows_in_long_runs() -> None:
    run_state_machine_as_test(CachedStoreMachine, settings=_runs(60, 30))
