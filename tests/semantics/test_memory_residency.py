"""Memory-only data: marked bytes are read through every door, let go, and their holders crash; no file ever has them."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.load import until
from support.processes import require
from support.rig import Rig, rig
from support.servers import S3Server

pytestmark = pytest.mark.servers

MARK_BYTES = 64
PREFIX = b"HRMARK-"
SIZE = 3 * 1024 * 1024
WRITES = "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,splice"

READ_BY_FSSPEC = """
import sys, fsspec
fs = fsspec.filesystem("headrace", mode=sys.argv[1], config=sys.argv[2], skip_instance_cache=True)
data = fs.cat_file("data/marked")
assert data.count(b"HRMARK-") > 1000, len(data)
with fs.open("data/marked") as file:
    file.seek(1000)
    assert b"HRMARK-" in file.read(200)
assert fs.cat_ranges(["data/marked"], [64], [192])[0].count(b"HRMARK-") == 2
"""


def marked(size: int) -> tuple[bytes, bytes]:
    """Bytes that consist of one mark over and over, and that mark."""
    mark = PREFIX + secrets.token_hex(32).encode()[: MARK_BYTES - len(PREFIX)]
    return (mark * (size // MARK_BYTES + 1))[:size], mark


def files_with(mark: bytes, *folders: Path) -> list[Path]:
    """Every file below that has the mark's random part; what cannot be read fails the test."""
    needle, found = mark[len(PREFIX) : len(PREFIX) + 24], []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and needle in path.read_bytes():
                found.append(path)
    return found


@contextmanager
def surroundings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Temporary files, home and core dumps of everything started inside lie below `folder`."""
    for name in ("TMPDIR", "TMP", "TEMP", "HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        place = folder / name.lower()
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(place))
    (folder / "cwd").mkdir()
    monkeypatch.chdir(folder / "cwd")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


async def read_through_every_door(system: Rig, mark: bytes) -> None:
    async with system.client() as client:
        whole = await client.get("/data/marked")
        assert whole.whole, f"{whole.status} {whole.body[:300]!r}"
        assert whole.body.count(mark) == SIZE // MARK_BYTES
        for first, last in ((0, 127), (70_000, 140_000), (1_000_000, SIZE - 1)):
            assert mark in (await client.get("/data/marked", first=first, last=last)).body
        assert (await client.get("/data/marked", method="HEAD")).status == 200
        assert (await client.get("/data?list-type=2")).status == 200
    await asyncio.to_thread(system.node.cli, "load", "/data/marked", check=False)
    await asyncio.to_thread(system.node.cli, "cat", "/data/marked")
    for mode in ("remote", "embedded", "auto"):
        await read_by_fsspec(system, mode)


async def read_by_fsspec(system: Rig, mode: str) -> None:
    command = (sys.executable, "-c", READ_BY_FSSPEC, mode, str(system.node.config))
    done = await asyncio.to_thread(subprocess.run, command, env=system.node.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{mode}: {done.stderr}"


@pytest.mark.parametrize("residency", ["memory", "none", "disk"])
async def test_marked_bytes_are_in_no_file_after_reads_eviction_and_crashes(
    residency: str, tmp_path: Path, seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `disk` they must be found: that shows that the search can find them.

    `none` promises that nothing is kept, not that a process cannot be dumped while bytes pass through it.
    """
    body, mark = marked(SIZE)
    with surroundings(tmp_path / "around", monkeypatch):
        options = f'freshness = "1h"\nresidency = "{residency}"'
        cache = 'memory = "8MiB"\ndisk = [{ path = "pages", capacity = "1GiB" }]'
        async with rig(tmp_path / "node", seaweedfs_server, mount=options, cache=cache, processes=2) as system:
            await asyncio.to_thread(system.store.put, system.bucket, "marked", body)
            await read_through_every_door(system, mark)
            for number in range(4):  # more than the tier holds, so that the marked pages are evicted
                await system.put(f"other-{number}", 1, 4 * 1024 * 1024)
                await system.right(f"other-{number}", 4 * 1024 * 1024)
            await system.right("other-0", 4 * 1024 * 1024)
            if residency == "disk":
                assert files_with(mark, tmp_path), "the search finds nothing where there is something"
                return
            dumping = (signal.SIGABRT, signal.SIGSEGV) if residency == "memory" else ()
            for number in (*dumping, signal.SIGKILL):
                await system.get("marked")
                pid = system.node.worker_pids()[0]
                os.kill(pid, number)
                await until(lambda pid=pid: pid not in system.node.worker_pids(), "the process died")
                await until(lambda: len(system.node.worker_pids()) == 2, "it is started again")
                await system.get("marked")
            assert files_with(mark, tmp_path) == []
            for pid in reversed(system.every_pid()):
                os.kill(pid, (*dumping, signal.SIGKILL)[0])
            system.node.process.wait()
            assert files_with(mark, tmp_path, *(path for path in (Path("/dev/shm"),) if path.is_dir())) == []
            await system.restart()
        assert files_with(mark, tmp_path) == []


async def test_a_memory_mount_locks_what_it_holds_and_swap_cannot_have_it(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    body, _ = marked(SIZE)
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"\nresidency = "memory"') as system:
        await asyncio.to_thread(system.store.put, system.bucket, "marked", body)
        assert (await system.get("marked")).whole
        (pid,) = system.node.worker_pids()
        status = Path(f"/proc/{pid}/status").read_text()
        locked = re.search(r"VmLck:\s+(\d+) kB", status)
        swapped = re.search(r"VmSwap:\s+(\d+) kB", status)
        assert locked and int(locked[1]) * 1024 >= SIZE, status
        assert swapped and int(swapped[1]) == 0
        shared = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if re.search(r" .w.s ", line)]
        # Marks are random numbers by which processes tell each other that a key was written; no byte of an object is there.
        mapped = [line for line in shared if str(tmp_path) in line and not line.endswith("/run/marks")]
        assert not mapped, "a file is mapped for writing"


async def test_no_call_writes_marked_bytes_to_a_regular_file(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    strace = require("strace")
    body, mark = marked(SIZE)
    log = tmp_path / "strace.log"
    async with rig(tmp_path / "node", seaweedfs_server, mount='freshness = "1h"\nresidency = "memory"') as system:
        await asyncio.to_thread(system.store.put, system.bucket, "marked", body)
        attach = [option for pid in system.every_pid() for option in ("-p", str(pid))]
        process = subprocess.Popen([strace, "-f", "-qq", "-y", "-s", "256", "-e", f"trace={WRITES}", "-o", str(log), *attach])
        try:
            (pid,) = system.node.worker_pids()
            await until(lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text(), "strace has attached")
            for _ in range(2):
                assert (await system.get("marked", timeout_s=60)).body == body
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
    lines = log.read_text(errors="replace").splitlines()
    carrying = [line for line in lines if mark.decode()[:30] in line or "sendfile(" in line or "splice(" in line]
    assert any("socket:" in line or "TCP:" in line for line in carrying), "the marked bytes were never seen on their way out"
    assert [line for line in carrying if regular(line)] == []


def regular(line: str) -> bool:
    """Whether a traced call writes to a file of a file system: the first descriptor names it."""
    target = re.search(r"\((\d+)<([^>]*)>", line)
    return target is not None and target[2].startswith("/") and not target[2].startswith(("/memfd:", "/dev/null"))
