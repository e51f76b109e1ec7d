"""Many want one object while it is being fetched, and whoever fetches it goes away."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from headrace.testing.http_faults import Slow, When
from support.load import Refused, open_files, until, version_of
from support.rig import Rig, rig
from support.servers import S3Server

pytestmark = pytest.mark.servers

BIG = 16 * 1024 * 1024
FIRST_ASKED = 1024 * 1024


async def read_with_retries(system: Rig, key: str, size: int, *, tries: int = 8) -> int:
    """As an SDK does: a refusal or an abort is tried again."""
    for number in range(tries):
        try:
            answer = await system.get(key)
        except Refused:
            await asyncio.sleep(0.05 * 2**number)
            continue
        if answer.whole:
            return version_of(answer.body, key, size)
        assert answer.cut or answer.status == 503, f"{answer.status} {answer.body[:200]!r}"
        await asyncio.sleep(0.05 * 2**number)
    raise AssertionError(f"{key} could not be read in {tries} tries")


@pytest.mark.parametrize("processes", [1, 2])
async def test_256_clients_of_one_cold_object_cost_the_store_one_object(
    processes: int, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, processes=processes) as system:
        size = BIG // 4
        await system.put(key, 1, size)
        system.fault("slow", Slow(2_000_000), when=When("GET", path=key, times=0))
        assert set(await asyncio.gather(*(system.right(key, size) for _ in range(256)))) == {1}
        assert system.happened["slow"] >= 1
        # Each process asks for the version of an unknown object together with its first bytes.
        assert sum(seen.body_bytes for seen in system.gets(key)) <= 1.05 * size + (processes - 1) * FIRST_ASKED


async def test_when_the_process_that_fills_is_killed_another_takes_over_and_no_page_is_fetched_more_than_twice(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, processes=2) as system:
        await system.put(key, 1, BIG)
        system.fault("slow", Slow(8_000_000), when=When("GET", path=key, times=0))
        readers = [asyncio.create_task(read_with_retries(system, key, BIG)) for _ in range(64)]
        await until(lambda: system.happened["slow"] >= 1, "the fill begins")
        await asyncio.sleep(0.3)
        fillers = [pid for pid in system.node.worker_pids() if holds_a_growing_fill(pid)]
        assert fillers, "no process was filling: nothing would be tested"
        os.kill(fillers[0], signal.SIGKILL)
        assert set(await asyncio.gather(*readers)) == {1}
        assert not Path(f"/proc/{fillers[0]}").exists()
        assert sum(seen.body_bytes for seen in system.gets(key)) <= 2 * BIG
        await until(lambda: len(system.node.worker_pids()) == 2, "the killed process is started again")
        assert await system.right(key, BIG) == 1


def holds_a_growing_fill(pid: int) -> bool:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if ".part" in str(descriptor.readlink()):
                return True
        except OSError:
            continue
    return False


async def test_clients_that_leave_in_the_middle_of_a_fill_leave_nothing_behind(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server) as system:
        (pid,) = system.node.worker_pids()
        await system.put("warm-up", 1, 1000)
        await system.right("warm-up", 1000)
        before = open_files(pid)
        for number in range(20):
            await system.put(f"{key}-{number}", 1, BIG // 8)
        system.fault("slow", Slow(2_000_000), when=When("GET", path=key, times=0))
        for number in range(20):
            reader, writer = await system.client().begin(f"/data/{key}-{number}")
            await reader.readexactly(100)
            writer.transport.abort()
        assert system.happened["slow"] >= 20
        system.heal()
        await until(lambda: system.proxy.connections <= 4, "fills that nobody waits for end", deadline_s=30)
        await until(lambda: open_files(pid) <= before + 45, "descriptors are closed", deadline_s=15)
        await until(lambda: not holds_a_growing_fill(pid), "no fill is left open")
        for number in range(20):
            assert await system.right(f"{key}-{number}", BIG // 8) == 1
