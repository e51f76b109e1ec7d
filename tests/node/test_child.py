"""One child process: its starts, its restarts, its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.cache.settings import CacheSettings
from headrace.control.state import NodeState
from headrace.gateways.settings import GatewaySettings
from headrace.model.errors import Unavailable
from headrace.node.child import Child, wait_before_restart
from headrace.node.messages import AskStats, Boot, Drain, WorkerReport
from headrace.node.view import WorkersView

TESTS = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{TESTS.parent / 'src'}")


class States:
    """What the supervisor would boot a child with."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.known = asyncio.Event()
        self.epoch = 1
        home.mkdir()

    def boot(self) -> Boot:
        return Boot(str(self.home), CacheSettings(), GatewaySettings(), NodeState(self.epoch))


@asynccontextmanager
async def running(states: States, module: str = "support.tiny_child") -> AsyncIterator[Child]:
    child = Child(module, boot=states.boot, known=states.known, fds=(), on_event=lambda _: None)
    task = asyncio.create_task(child.run())
    try:
        yield child
    finally:
        await child.stop(Drain(1.0), timeout_s=1.0)
        await asyncio.wait_for(task, 10)


async def until(holds: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not become so"
        await asyncio.sleep(0.01)


async def epoch_of(child: Child) -> int:
    report = await child.ask(AskStats(), timeout_s=5)
    assert isinstance(report, WorkerReport)
    return report.counters.requests


def test_the_wait_grows_with_quick_deaths_and_is_bounded() -> None:
    waits = [wait_before_restart(quick) for quick in range(2000)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == 5.0


async def test_it_boots_once_the_state_is_known_and_comes_back_when_killed(tmp_path: Path) -> None:
    states = States(tmp_path / "good")
    async with running(states) as child:
        await until(lambda: child.pid)
        assert not child.alive
        states.known.set()
        await asyncio.wait_for(child.ready.wait(), 20)
        first = child.pid
        states.epoch = 5
        child.kill()
        await until(lambda: child.alive and child.pid != first)
        assert await epoch_of(child) == 5
        assert child.restarts == 1


async def test_a_state_that_came_into_force_during_a_start_is_there_before_it_is_ready(tmp_path: Path) -> None:
    states = States(tmp_path / "slow")
    states.known.set()
    async with running(states) as child:
        view = WorkersView([child], child, data_url="")
        await until((states.home / "booting").exists)
        states.epoch = 2
        await view.push_state(NodeState(2))
        assert not child.alive
        (states.home / "go").touch()
        await asyncio.wait_for(child.ready.wait(), 20)
        assert await epoch_of(child) == 2


@pytest.mark.parametrize("how", ["refuses", "dies"])
async def test_one_that_does_not_start_is_tried_again_and_never_ready(tmp_path: Path, how: str) -> None:
    states = States(tmp_path / how)
    states.known.set()
    async with running(states) as child:
        await until(lambda: child.restarts >= 2)
        assert not child.alive
        with pytest.raises(Unavailable):
            await child.ask(AskStats(), timeout_s=5)


async def test_a_system_that_starts_no_process_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec
    refusals = [OSError(11, "Resource temporarily unavailable")] * 2

    async def refusing(*command: str, pass_fds: tuple[int, ...], env: dict[str, str]) -> asyncio.subprocess.Process:
        if refusals:
            raise refusals.pop()
        return await start(*command, pass_fds=pass_fds, env=env)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refusing)
    states = States(tmp_path / "good")
    states.known.set()
    async with running(states) as child:
        await asyncio.wait_for(child.ready.wait(), 20)
        assert child.restarts == 2


async def test_a_stop_during_a_start_ends_it_at_once(tmp_path: Path) -> None:
    states = States(tmp_path / "good")
    child = Child("support.tiny_child", boot=states.boot, known=states.known, fds=(), on_event=lambda _: None)
    task = asyncio.create_task(child.run())
    await until(lambda: child.pid)
    await asyncio.wait_for(child.stop(Drain(30.0), timeout_s=30.0), 5)
    await asyncio.wait_for(task, 5)
    await child.stop(Drain(30.0), timeout_s=30.0)
    assert not child.alive


async def test_one_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    states = States(tmp_path / "hangs")
    states.known.set()
    async with running(states) as child:
        await asyncio.wait_for(child.ready.wait(), 20)
        await asyncio.wait_for(child.stop(Drain(0.1), timeout_s=0.1), 5)
        assert not child.alive


async def test_one_that_takes_no_state_is_replaced_by_one_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.node.view._APPLY_TIMEOUT_S", 0.2)
    states = States(tmp_path / "hangs")
    states.known.set()
    async with running(states) as child:
        await asyncio.wait_for(child.ready.wait(), 20)
        first = child.pid
        view = WorkersView([child], child, data_url="")
        states.epoch = 3
        await view.push_state(NodeState(3))
        await until(lambda: child.alive and child.pid != first)
        assert await epoch_of(child) == 3
