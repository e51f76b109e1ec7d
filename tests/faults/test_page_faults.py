"""The page directory is damaged, full or broken: readers still get right bytes, or an error when the store is away too."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.load import open_files, resident_bytes, until, version_of
from support.processes import require
from support.rig import PAGE, Rig, rig
from support.servers import S3Server

pytestmark = pytest.mark.servers

SIZE = 5 * PAGE + 1000
NO_MEMORY_TIER = 'memory = "0"\ndisk = [{ path = "pages", capacity = "1GiB" }]'


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x40
    with path.open("r+b") as file:
        file.write(data)


def flip_everywhere(path: Path) -> None:
    """Also where a checksum lies, and past the first page of a long segment."""
    data = bytearray(path.read_bytes())
    for at in range(7, len(data), 4096):
        data[at] ^= 0x01
    with path.open("r+b") as file:
        file.write(data)


def swap_content(path: Path) -> None:
    """Right length, right format, another page's bytes."""
    path.write_bytes(path.read_bytes()[::-1])


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * 100)


def delete(path: Path) -> None:
    path.unlink()


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_unreadable_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


DAMAGES = [flip, flip_everywhere, swap_content, truncate, empty, lengthen, delete, make_directory, make_unreadable_link]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_a_damaged_page_is_noticed_before_a_byte_leaves_and_fetched_again(
    damage: Callable[[Path], None], tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"', cache=NO_MEMORY_TIER) as system:
        await warmed(system, key)
        for path in system.page_files():
            damage(path)
        system.forget()
        assert await system.right(key, SIZE) == 1
        for start in range(0, SIZE - 200, PAGE // 2):
            assert await system.right(key, SIZE, start=start, end=start + 200) == 1
        assert system.gets(key), "the damage was not noticed: the store was not asked again"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_a_damaged_page_is_an_error_when_the_store_is_away_and_not_bad_bytes(
    damage: Callable[[Path], None], tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"\ntimeout = "1s"', cache=NO_MEMORY_TIER) as system:
        await warmed(system, key)
        system.proxy.refuse()
        for path in system.page_files():
            damage(path)
        assert await only_right_bytes_until_an_error(system, key)
        system.heal()
        assert await system.right(key, SIZE) == 1


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_damage_done_while_nobody_runs_is_noticed_after_the_start(
    damage: Callable[[Path], None], tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"', cache=NO_MEMORY_TIER) as system:
        await warmed(system, key)
        for pid in reversed(system.every_pid()):
            os.kill(pid, signal.SIGKILL)
        system.node.process.wait()
        for path in [path for path in system.pages.glob("*/*") if path.is_file() and path.stat().st_size]:
            damage(path)
        await system.restart()
        assert await system.right(key, SIZE) == 1


async def only_right_bytes_until_an_error(system: Rig, key: str) -> bool:
    """Pages that a process holds open go on while their own bytes are right: bytes after a file's end are no part of them."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = await system.get(key, timeout_s=20)
        if answer.cut or answer.status == 503:
            return True
        assert answer.whole, f"{answer.status} {answer.headers}"
        assert version_of(answer.body, key, SIZE) == 1
    return False


async def warmed(system: Rig, key: str) -> None:
    """The object is in the page directory, and reading it again does not ask the store."""
    await system.put(key, 1, SIZE)
    assert await system.right(key, SIZE) == 1
    await until(lambda: bool(system.page_files()), "pages are on disk")
    await until(lambda: not list(system.pages.rglob("*.part")), "fills have ended")
    system.forget()
    assert await system.right(key, SIZE) == 1
    assert not system.gets(key)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB and 60 files, so that running out of either is real."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,nr_inodes=60", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.root
async def test_a_full_disk_makes_reads_pass_through_and_none_fail_or_stall(
    small_disk: Path, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    cache = f'memory = "0"\ndisk = [{{ path = "{small_disk}", capacity = "1GiB" }}]'
    async with rig(tmp_path / "node", seaweedfs_server, mount='freshness = "1h"', cache=cache) as system:
        for number in range(6):
            await system.put(f"{key}-{number}", 1, 3 * 1024 * 1024)
        slowest = 0.0
        for _ in range(2):
            for number in range(6):
                started = time.monotonic()
                assert await system.right(f"{key}-{number}", 3 * 1024 * 1024) == 1
                slowest = max(slowest, time.monotonic() - started)
        assert shutil.disk_usage(small_disk).free < 4 * 1024 * 1024, "the disk was never near full"
        assert slowest < 5


@pytest.mark.root
async def test_running_out_of_files_makes_reads_pass_through(
    small_disk: Path, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    cache = f'memory = "0"\ndisk = [{{ path = "{small_disk}", capacity = "1GiB" }}]'
    async with rig(tmp_path / "node", seaweedfs_server, mount='freshness = "1h"', cache=cache) as system:
        for number in range(80):
            await system.put(f"{key}-{number}", 1, 3000)
        for number in range(80):
            assert await system.right(f"{key}-{number}", 3000) == 1
        assert os.statvfs(small_disk).f_favail < 8, "files did not run out"


@pytest.mark.root
async def test_a_disk_that_answers_eio_is_passed_by_quickly_and_used_again_later(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    strace = require("strace")
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"', cache=NO_MEMORY_TIER) as system:
        await warmed(system, key)
        (pid,) = system.node.worker_pids()
        calls = "pread64,preadv,preadv2,sendfile"
        log = tmp_path / "strace.log"
        command = [strace, "-f", "-qq", "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO", "-o", str(log)]
        process = subprocess.Popen(command)
        try:
            await until(lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text(), "strace has attached")
            for _ in range(10):
                started = time.monotonic()
                assert await system.right(key, SIZE) == 1
                assert time.monotonic() - started < 3
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
        assert "EIO" in log.read_text() and "INJECTED" in log.read_text()
        assert await system.right(key, SIZE) == 1


async def test_memory_stays_within_its_cap_and_nothing_of_a_memory_mount_spills(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    cache = 'memory = "16MiB"\ndisk = [{ path = "pages", capacity = "1GiB" }]'
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"\nresidency = "memory"', cache=cache) as system:
        (pid,) = system.node.worker_pids()
        for number in range(24):
            await system.put(f"{key}-{number}", 1, 4 * 1024 * 1024)
        assert await system.right(f"{key}-0", 4 * 1024 * 1024) == 1
        before = resident_bytes(pid)
        for _ in range(2):
            for number in range(24):
                assert await system.right(f"{key}-{number}", 4 * 1024 * 1024) == 1
        assert resident_bytes(pid) - before < 24 * 1024 * 1024
        assert not system.page_files()
        assert open_files(pid) < 100
        system.forget()
        assert await system.right(f"{key}-23", 4 * 1024 * 1024) == 1
        await asyncio.sleep(0)
