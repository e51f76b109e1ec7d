"""Many readers, changing objects, passing mounts, faults by chance and kills, all at once; each body is one version."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from headrace.testing.http_faults import Answer as Answered
from headrace.testing.http_faults import Cut, Delay, When
from support.load import RawClient, Refused, kinds_of_files, open_files, resident_bytes, until, version_of
from support.rig import PAGE, Rig, rig
from support.servers import S3Server

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(1800)]

SECONDS = float(os.environ.get("HEADRACE_STRESS_SECONDS", "30"))
CONNECTIONS = int(os.environ.get("HEADRACE_STRESS_CONNECTIONS", "200"))
OBJECTS = {
    f"obj-{number:02d}": size for number, size in enumerate([1000, 4096, PAGE, PAGE + 1, 3 * PAGE, 1_000_003, 5_000_011] * 4)
}


class Stress:
    """The load and what came of it."""

    def __init__(self, system: Rig, seed: int) -> None:
        self.system = system
        self.chance = random.Random(seed)
        self.stop = asyncio.Event()
        self.outcomes: Counter[str] = Counter()
        self.verified_bytes = 0
        self.overwrites = 0
        self.mount_changes = 0
        self.newest = dict.fromkeys(OBJECTS, 1)

    async def read(self) -> None:
        """One connection's work: mostly ranges and small objects, some whole ones, some HEADs, from either mount."""
        names = list(OBJECTS)
        client = RawClient(self.system.signer)
        while not self.stop.is_set():
            name = self.chance.choice(names)
            size = OBJECTS[name]
            mount = self.chance.choice(("data", "data", "calm", "passing"))
            first: int | None = None
            last: int | None = None
            if size > 4096 and self.chance.random() < 0.85:
                first = self.chance.randrange(size - 200)
                last = min(size, first + self.chance.choice((200, 4096, PAGE, 4 * PAGE))) - 1
            method = "HEAD" if self.chance.random() < 0.05 else "GET"
            try:
                answer = await client.get(f"/{mount}/{name}", first=first, last=last, method=method)
            except Refused:
                self.outcomes["refused"] += 1
                await asyncio.sleep(0.05)
                continue
            if answer.cut:
                self.outcomes["cut"] += 1
            elif answer.whole:
                self.outcomes["whole"] += 1
                if method == "GET":
                    wanted = size if first is None or last is None else last + 1 - first
                    assert len(answer.body) == wanted, f"{name}: {len(answer.body)} bytes instead of {wanted}"
                    version = version_of(answer.body, name, size, start=first or 0)
                    assert version <= self.newest[name], f"{name}: version {version} was never written"
                    self.verified_bytes += wanted
            else:
                self.outcomes[str(answer.status)] += 1
                assert answer.status == 503 or (mount == "passing" and answer.status == 404), (
                    f"{answer.status} {answer.body[:300]!r}"
                )
        client.close()

    async def overwrite(self) -> None:
        """A writer at the store, behind Headrace's back."""
        while not self.stop.is_set():
            name = self.chance.choice(list(OBJECTS))
            self.newest[name] += 1
            await self.system.put(name, self.newest[name], OBJECTS[name])
            self.overwrites += 1
            await asyncio.sleep(0.05)

    async def change_mounts(self) -> None:
        system = self.system
        spec = {"path": "/passing", "store": f"s3://{system.bucket}", "endpoint": system.store.endpoint, "credentials": "env:RIG"}
        while not self.stop.is_set():
            await asyncio.to_thread(system.node.api, "/api/v1/mounts", method="POST", body=spec)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(system.node.api, "/api/v1/mounts", method="DELETE", body={"path": "/passing"})
            self.mount_changes += 1
            await asyncio.sleep(0.2)

    async def run(self, seconds: float, *, connections: int, mounts: bool = True) -> None:
        """Everything at once; the first failure of any part ends it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self.read())
            group.create_task(self.overwrite())
            if mounts:
                group.create_task(self.change_mounts())
            await asyncio.sleep(seconds)
            self.stop.set()
        self.stop.clear()


def seed_of_this_run() -> int:
    seed = int(os.environ.get("HEADRACE_SEED", str(random.randrange(10**6))))
    print(f"seed {seed}: repeat with HEADRACE_SEED={seed}")
    return seed


async def written(system: Rig) -> None:
    for name, size in OBJECTS.items():
        await system.put(name, 1, size)


async def test_mixed_reads_stay_right_and_nothing_leaks(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    cache = 'memory = "16MiB"\ndisk = [{ path = "pages", capacity = "32MiB" }]'
    async with rig(tmp_path, seaweedfs_server, cache=cache, processes=2) as system:
        await written(system)
        stress = Stress(system, seed_of_this_run())
        await stress.run(min(20.0, SECONDS), connections=CONNECTIONS)
        await asyncio.sleep(2.0)
        before = {pid: (open_files(pid), resident_bytes(pid)) for pid in system.node.worker_pids()}
        await stress.run(SECONDS, connections=CONNECTIONS)
        print(dict(stress.outcomes), stress.verified_bytes, stress.overwrites, stress.mount_changes)
        assert stress.outcomes["whole"] > 50 * SECONDS
        assert stress.outcomes["503"] == 0, "a store that is well was called away"
        assert stress.overwrites > SECONDS
        assert stress.mount_changes >= 2
        assert set(system.node.worker_pids()) == set(before), "a process has died"
        await asyncio.sleep(2.0)
        print({pid: (before[pid], dict(kinds_of_files(pid)), resident_bytes(pid)) for pid in before})
        for pid, (files, resident) in before.items():
            await until(
                lambda pid=pid, files=files: open_files(pid) <= files * 1.05 + 8, "descriptors are given back", deadline_s=70
            )
            assert resident_bytes(pid) <= resident * 1.25 + 16 * 1024 * 1024
        used = sum(path.stat().st_blocks * 512 for path in system.pages.rglob("*") if path.is_file())
        assert used <= 32 * 1024 * 1024 * 1.25


async def test_mixed_reads_stay_right_while_the_store_fails_by_chance_and_processes_are_killed(
    tmp_path: Path, seaweedfs_server: S3Server
) -> None:
    cache = 'memory = "16MiB"\ndisk = [{ path = "pages", capacity = "32MiB" }]'
    async with rig(tmp_path, seaweedfs_server, cache=cache, mount='freshness = "1s"\ntimeout = "5s"', processes=2) as system:
        await written(system)
        stress = Stress(system, seed_of_this_run())
        system.fault("503", Answered(503), when=When(times=0, chance=0.03))
        system.fault("cut", Cut(1000), when=When("GET", times=0, chance=0.03))
        system.fault("late", Delay(0.3), when=When("GET", times=0, chance=0.03))

        async def kill() -> int:
            killed, end = 0, time.monotonic() + SECONDS
            while time.monotonic() < end - 3:
                await asyncio.sleep(stress.chance.uniform(1, 3))
                alive = system.node.worker_pids()
                for pid in stress.chance.sample(alive, min(len(alive), stress.chance.choice((1, 2)))):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                await until(lambda: len(system.node.worker_pids()) == 2, "killed processes are started again", deadline_s=15)
            return killed

        killing = asyncio.create_task(kill())
        await stress.run(SECONDS, connections=CONNECTIONS // 2, mounts=False)
        killed = await killing
        print(dict(stress.outcomes), stress.verified_bytes, killed, dict(system.happened))
        assert killed >= 1
        assert all(system.happened[name] for name in ("503", "cut", "late"))
        assert stress.outcomes["whole"] > 10 * SECONDS
