"""Several processes over one page directory: one fill for all of them, also when its leader is killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest

from support import cache_process
from support.caching import until

SIZE = 16 * 1024 * 1024 + 4321


class Child:
    """One reading process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, home: Path, key: str, *, readers: int, delay_ms: float) -> Child:
        source = str(Path(sys.modules["headrace"].__path__[0]).parent)
        process = await asyncio.create_subprocess_exec(
            sys.executable, cache_process.__file__, str(home), str(home / "store"), key, str(readers), str(delay_ms),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": source},
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n", (await process.communicate())[1]
        return cls(process)

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def answer(self) -> str:
        out, err = await asyncio.wait_for(self.process.communicate(), 60)
        assert self.process.returncode == 0, err.decode()
        return out.decode().strip()

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)


def _taken(home: Path) -> dict[int, int]:
    taken: dict[int, int] = {}
    path = home / "taken"
    for line in path.read_text().splitlines() if path.exists() else ():
        pid, count = line.split()
        taken[int(pid)] = taken.get(int(pid), 0) + int(count)
    return taken


def _object(home: Path) -> str:
    (home / "store").mkdir()
    body = os.urandom(SIZE)
    (home / "store" / "big").write_bytes(body)
    return hashlib.sha256(body).hexdigest()


async def test_two_processes_with_many_readers_fetch_an_object_once(tmp_path: Path) -> None:
    right = _object(tmp_path)
    children = [await Child.start(tmp_path, "big", readers=16, delay_ms=1) for _ in range(2)]
    for child in children:
        child.go()
    assert [await child.answer() for child in children] == [right, right]
    assert SIZE <= sum(_taken(tmp_path).values()) <= SIZE * 1.05


async def test_killed_leader_is_followed_by_another_process(tmp_path: Path) -> None:
    right = _object(tmp_path)
    leader, follower = [await Child.start(tmp_path, "big", readers=4, delay_ms=5) for _ in range(2)]
    leader.go()
    await until(lambda: list(tmp_path.glob("pages/???/*.part")) and sum(_taken(tmp_path).values()) > 1 << 20)
    follower.go()
    before = sum(_taken(tmp_path).values())
    await until(lambda: sum(_taken(tmp_path).values()) > before + (1 << 20))
    leader.kill()
    await leader.process.wait()
    assert leader.process.returncode == -signal.SIGKILL
    assert await follower.answer() == right
    assert sum(_taken(tmp_path).values()) <= SIZE * 2
    assert not list(tmp_path.glob("pages/???/*.part"))


@pytest.mark.slow
async def test_pages_are_right_after_every_process_was_killed(tmp_path: Path) -> None:
    right = _object(tmp_path)
    for _ in range(3):
        child = await Child.start(tmp_path, "big", readers=2, delay_ms=3)
        child.go()
        before = sum(_taken(tmp_path).values())
        await until(lambda before=before: sum(_taken(tmp_path).values()) > before + (3 << 20))
        child.kill()
        await child.process.wait()
    last = await Child.start(tmp_path, "big", readers=2, delay_ms=0)
    last.go()
    assert await last.answer() == right
