from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from headrace import bridge


async def _answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


def test_runs_work_on_one_background_loop_from_many_threads() -> None:
    seen: list[object] = []

    async def where() -> None:
        seen.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=lambda: bridge.run(where())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert set(seen) == {bridge.loop()}


def test_an_error_reaches_the_caller() -> None:
    async def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        bridge.run(fail())


def test_waiting_on_the_loop_itself_is_refused_instead_of_hanging() -> None:
    async def wrong() -> int:
        return bridge.run(_answer(1))

    with pytest.raises(RuntimeError, match="own event loop"):
        bridge.run(wrong())


async def test_another_loop_awaits_work_on_ours() -> None:
    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert await bridge.on_loop(where()) is bridge.loop()
    assert asyncio.get_running_loop() is not bridge.loop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_gets_a_loop_of_its_own() -> None:
    assert bridge.run(_answer(1)) == 1
    parents = bridge.loop()
    pid = os.fork()
    if pid == 0:
        right = bridge.run(_answer(7)) == 7 and bridge.loop() is not parents
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert bridge.loop() is parents


_AT_EXIT = """
import asyncio, weakref
from headrace import bridge

class Thing:
    async def aclose(self):
        print("closed", flush=True)

async def for_ever():
    await asyncio.Event().wait()

thing = Thing()
bridge.run(asyncio.sleep(0))
bridge.keep(thing)
bridge.submit(for_ever())
"""


def test_exit_closes_what_is_open_without_a_word_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-X", "dev", "-c", _AT_EXIT], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")
