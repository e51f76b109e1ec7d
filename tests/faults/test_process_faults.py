"""Processes are killed, stopped and started again, also over pages of another format."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest

from headrace.testing.http_faults import Slow, When
from support.load import RawClient, Refused, get_once, until, version_of
from support.rig import PAGE, Rig, rig
from support.servers import S3Server

pytestmark = pytest.mark.servers

SIZE = 40 * PAGE + 1000
FIRST_ASKED = 1024 * 1024  # what is fetched at once with the version of an object of which nothing is known


def kill_all(system: Rig) -> None:
    pids = system.every_pid()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    system.node.process.wait()


def half_written(system: Rig) -> list[Path]:
    return list(system.pages.rglob("*.part"))


async def test_after_a_kill_in_the_middle_of_fills_right_bytes_are_there_at_once_and_halves_are_gone(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"', processes=2) as system:
        for number in range(6):
            await system.put(f"{key}-{number}", 1, SIZE)
        assert await system.right(f"{key}-0", SIZE) == 1
        await until(lambda: not half_written(system), "the first object is wholly on disk")
        system.fault("slow", Slow(1_500_000), when=When("GET", path=key, times=0))
        readers = [asyncio.create_task(system.get(f"{key}-{number}")) for number in range(1, 6)]
        await until(lambda: system.happened["slow"] >= 1 and bool(half_written(system)), "a fill has grown")
        kill_all(system)
        answers = await asyncio.gather(*readers, return_exceptions=True)
        assert any(isinstance(answer, Refused) or (not isinstance(answer, BaseException) and answer.cut) for answer in answers)
        assert system.happened["slow"] >= 1
        system.heal()
        system.forget()
        started = time.monotonic()
        await system.restart()
        assert await system.right(f"{key}-0", SIZE) == 1
        assert time.monotonic() - started < 5
        again = sum(seen.body_bytes for seen in system.gets(f"{key}-0"))
        assert again <= FIRST_ASKED, f"pages did not survive the kill: {again} bytes were fetched again"
        for number in range(1, 6):
            assert await system.right(f"{key}-{number}", SIZE) == 1
        await until(lambda: not half_written(system), "what was half written is cleared away", deadline_s=30)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_kills_at_random_moments_of_one_or_all_processes_never_cost_a_wrong_byte(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    rounds = int(os.environ.get("HEADRACE_KILLS", "10"))
    seed = int(os.environ.get("HEADRACE_SEED", str(random.randrange(10**6))))
    print(f"seed {seed}: repeat with HEADRACE_SEED={seed}")
    chance = random.Random(seed)
    cache = 'memory = "16MiB"\ndisk = [{ path = "pages", capacity = "24MiB" }]'
    async with rig(tmp_path, seaweedfs_server, cache=cache, processes=2) as system:
        for number in range(16):
            await system.put(f"{key[:8]}-{number}", 1, SIZE)
        whole = 0

        async def read_on(client: RawClient) -> None:
            nonlocal whole
            name = f"{key[:8]}-{chance.randrange(16)}"
            start = chance.randrange(SIZE - 1000)
            end = min(SIZE, start + chance.choice((200, PAGE, SIZE)))
            try:
                answer = await client.get(f"/data/{name}", first=start, last=end - 1)
            except Refused:
                await asyncio.sleep(0.02)
                return
            if answer.whole:
                whole += 1
                assert len(answer.body) == end - start
                version_of(answer.body, name, SIZE, start=start)
            else:
                assert answer.cut or answer.status == 503, answer

        stop = asyncio.Event()

        async def reader() -> None:
            async with RawClient(system.signer) as client:
                while not stop.is_set():
                    if client._signer is not system.signer:
                        client.close()
                        client._signer = system.signer
                    await read_on(client)

        readers = [asyncio.create_task(reader()) for _ in range(16)]
        killed = 0
        for _ in range(rounds):
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            if chance.random() < 0.5:
                kill_all(system)
                await system.restart()
            else:
                os.kill(chance.choice(system.node.worker_pids()), signal.SIGKILL)
                await until(lambda: len(system.node.worker_pids()) == 2, "the killed process is started again")
            killed += 1
            before = whole
            await until(lambda before=before: whole > before, "reads go on after the kill")
        stop.set()
        await asyncio.gather(*readers)
        assert killed == rounds


@pytest.mark.parametrize(
    "content", [b"", b"headrace pages, format 0, page 4096, chunk 262144\n", b"\xff\x00" * 50], ids=["empty", "other", "garbage"]
)
async def test_pages_of_another_format_are_never_misread(
    content: bytes, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"') as system:
        await system.put(key, 1, SIZE)
        assert await system.right(key, SIZE) == 1
        await until(lambda: bool(system.page_files()), "pages are on disk")
        kill_all(system)
        (system.pages / "FORMAT").write_bytes(content)
        for path in system.page_files():
            path.write_bytes(b"\0" * path.stat().st_size)
        await system.restart()
        assert await system.right(key, SIZE) == 1


async def test_a_changed_page_size_reads_or_rebuilds_and_never_misreads(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"', cache='page = "64KiB"') as system:
        await system.put(key, 1, SIZE)
        assert await system.right(key, SIZE) == 1
        kill_all(system)
        text = system.node.config.read_text()
        assert 'page = "64KiB"' in text
        system.node.config.write_text(text.replace('page = "64KiB"', 'page = "256KiB"'))
        await system.restart()
        assert await system.right(key, SIZE) == 1
        assert await system.right(key, SIZE, start=PAGE - 100, end=5 * PAGE) == 1


@pytest.mark.parametrize("signals", [1, 2])
async def test_sigterm_under_load_finishes_what_runs_refuses_what_is_new_and_exits_0(
    signals: int, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, processes=2) as system:
        await system.put(key, 1, SIZE)
        system.fault("slow", Slow(200_000), when=When("GET", path=key, times=0))
        running = [asyncio.create_task(system.get(key)) for _ in range(8)]
        await until(lambda: system.happened["slow"] >= 1, "reads are running")
        await asyncio.sleep(0.3)
        for _ in range(signals):
            system.node.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
        assert system.node.process.poll() is None, "it did not wait for what was running"
        end = time.monotonic() + 5
        while await takes_new_requests(system):
            assert time.monotonic() < end, "new requests are served 5 s after SIGTERM"
            await asyncio.sleep(0.1)
        early = [task.result() for task in running if task.done()]
        assert not early, f"what ran was ended: {[(each.status, each.cut, len(each.body)) for each in early]}"
        for answer in await asyncio.gather(*running):
            assert answer.whole
            assert version_of(answer.body, key, SIZE) == 1
        assert await asyncio.to_thread(system.node.process.wait, 35) == 0


async def takes_new_requests(system: Rig) -> bool:
    try:
        return (await get_once(system.signer, "/calm/not-there", timeout_s=5)).status != 503
    except Refused:
        return False


async def test_without_its_supervisor_a_worker_ends(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    async with rig(tmp_path, seaweedfs_server, processes=2) as system:
        workers = system.every_pid()[1:]
        os.kill(system.node.process.pid, signal.SIGKILL)
        system.node.process.wait()
        assert len(workers) >= 2
        await until(lambda: not any(alive(pid) for pid in workers), "orphans end", deadline_s=40)
        assert not await takes_new_requests(system)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
