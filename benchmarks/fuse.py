"""The mounted namespace beside `rclone mount`, the JuiceFS mount and the backing file itself: warm, cold, and many small files."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peers
from load import ROUNDS, in_turn, ratio
from peers import BIN, Peer
from report import Row, emit

MIB = 1 << 20
LARGE_BYTES = int(os.environ.get("HEADRACE_BENCH_LARGE_MIB", "256")) * MIB
SMALL_FILES = int(os.environ.get("HEADRACE_BENCH_FILES", "10000"))
SMALL_BYTES = 4096
RANDOM_READS = 5000
_MOUNT_S = 60
_MERGE_S = 20


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        data = make_data(work / "data")
        origin = stack.enter_context(peers.seaweed(work))
        upload(work, origin, data)
        roots = {
            "ours": stack.enter_context(headrace(work / "ours", origin)) / "bench",
            "rclone": stack.enter_context(rclone(work / "rclone", origin)) / "bench",
            "juicefs": stack.enter_context(juicefs(work / "juicefs", data)),
        }
        cold = in_turn(1, {name: _measure(read_all, roots[name] / "cold0") for name in ("ours", "rclone")})
        for round_ in range(1, ROUNDS):
            for name in cold:
                cold[name].append(read_all(roots[name] / f"cold{round_}"))
        for root in roots.values():
            warm_up(root)
        backing = merged_file(work / "ours" / "home" / "pages", (data / "large").stat().st_size)
        large = {name: root / "large" for name, root in roots.items()} | {"file": backing}
        warm = in_turn(ROUNDS, {name: _measure(read_all, path) for name, path in large.items()})
        at_random = in_turn(ROUNDS, {name: _measure(read_random, path) for name, path in large.items()})
        small = in_turn(ROUNDS, {name: _measure(touch_all, root / "small") for name, root in roots.items()})
        emit("fuse", "A mounted directory (FUSE)", rows(cold, warm, at_random, small))


def rows(*found: dict[str, list[float]]) -> list[Row]:
    cold, warm, at_random, small = found
    size = f"{LARGE_BYTES // MIB} MiB"

    def row(what: str, of: dict[str, list[float]], theirs: str, wanted: float) -> Row:
        return Row(what, ratio(of["ours"], of[theirs]), wanted, "at least", of["ours"], of[theirs])

    return [
        row(f"warm, sequential, {size} ÷ the file itself (MB/s)", warm, "file", 0.9),
        row("… ÷ `rclone mount`", warm, "rclone", 5),
        row("… ÷ JuiceFS mount", warm, "juicefs", 1.2),
        row("warm, random 4 KiB ÷ the file itself (reads/s)", at_random, "file", 0.9),
        row("… ÷ `rclone mount`", at_random, "rclone", 8),
        row("… ÷ JuiceFS mount", at_random, "juicefs", 8),
        row(f"cold, first read of {size} ÷ `rclone mount` (MB/s)", cold, "rclone", 1),
        row(
            f"stat + open + read + close of {SMALL_FILES:,} warm files of 4 KiB ÷ `rclone mount` (files/s)", small, "rclone", 1.5
        ),
        row("… ÷ JuiceFS mount", small, "juicefs", 1),
    ]


def _measure(measure: Callable[[Path], float], path: Path) -> Callable[[], float]:
    return lambda: measure(path)


def make_data(root: Path) -> Path:
    (root / "small").mkdir(parents=True)
    for name in ("large", *(f"cold{number}" for number in range(ROUNDS))):
        with open(root / name, "wb") as file:
            for _ in range(LARGE_BYTES // MIB + (name == "large")):  # its pages are told from the others' by their length
                file.write(os.urandom(MIB))
    for number in range(SMALL_FILES):
        (root / "small" / f"f{number:05}").write_bytes(os.urandom(SMALL_BYTES))
    return root


def forget(fd: int, path: Path) -> None:
    """What the kernel keeps of a mount goes; what it keeps of the files behind stays."""
    if path.suffix != ".w":
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(path: Path) -> float:
    """MB/s of one pass. The buffer is page-aligned: into another, the same read can be five times slower."""
    with mmap.mmap(-1, MIB) as room:
        fd = os.open(path, os.O_RDONLY)
        try:
            forget(fd, path)
            began, count = time.perf_counter(), 0
            while done := os.readv(fd, [room]):
                count += done
            seconds = time.perf_counter() - began
        finally:
            os.close(fd)
    if count < LARGE_BYTES:
        raise RuntimeError(f"{path}: only {count} bytes were read")
    return count / seconds / 1e6


def read_random(path: Path) -> float:
    chosen = random.Random(1)
    offsets = [chosen.randrange(LARGE_BYTES // 4096) * 4096 for _ in range(RANDOM_READS)]
    with mmap.mmap(-1, 4096) as room:
        fd = os.open(path, os.O_RDONLY)
        try:
            forget(fd, path)
            began = time.perf_counter()
            for offset in offsets:
                os.preadv(fd, [room], offset)
            return RANDOM_READS / (time.perf_counter() - began)
        finally:
            os.close(fd)


def touch_all(directory: Path) -> float:
    """Files a second that are looked at, opened, read and closed."""
    began = time.perf_counter()
    for number in range(SMALL_FILES):
        path = directory / f"f{number:05}"
        os.stat(path)
        fd = os.open(path, os.O_RDONLY)
        if len(os.read(fd, SMALL_BYTES)) != SMALL_BYTES:
            raise RuntimeError(f"{path} is short")
        os.close(fd)
    return SMALL_FILES / (time.perf_counter() - began)


def warm_up(root: Path) -> None:
    """Everything is read once."""
    touch_all(root / "small")
    read_all(root / "large")


def merged_file(pages: Path, size: int) -> Path:
    """The one file that the pages of an object of `size` bytes become, within seconds."""
    until = time.monotonic() + _MERGE_S
    while time.monotonic() < until:
        for path in pages.rglob("*.w"):
            if path.stat().st_size == size:
                return path
        time.sleep(0.5)
    raise RuntimeError(f"no object of {size} bytes was merged within {_MERGE_S} s")


@contextmanager
def _mounted(command: list[str], work: Path, point: Path, env: dict[str, str] | None = None) -> Iterator[Path]:
    point.mkdir(parents=True)
    with peers.process(command, log=work / "mount.log", env=env) as child:
        try:
            until = time.monotonic() + _MOUNT_S
            while not os.path.ismount(point):
                if child.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((work / "mount.log").read_text())
                time.sleep(0.05)
            yield point
        finally:
            subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)


@contextmanager
def headrace(work: Path, origin: Peer) -> Iterator[Path]:
    work.mkdir()
    config = work / "headrace.toml"
    config.write_text(
        f'[server]\nhome = "{work}/home"\n[[mount]]\npath = "/"\nstore = "s3://"\nendpoint = "{origin.url}"\ncredentials = "env:BENCH"\n'
        'allow_private = true\nfreshness = "1h"\nwrite = "through"\n'
    )
    env = {"BENCH_ACCESS_KEY_ID": origin.key, "BENCH_SECRET_ACCESS_KEY": origin.secret}
    command = [str(BIN / "headrace"), "--config", str(config), "fuse", str(work / "mnt")]
    with _mounted(command, work, work / "mnt", env) as point:
        yield point


def upload(work: Path, origin: Peer, data: Path) -> None:
    command = [
        str(BIN / "rclone"),
        "--config",
        str(rclone_config(work, origin)),
        "copy",
        "--transfers",
        "8",
        str(data),
        "origin:bench",
    ]
    subprocess.run(command, check=True, timeout=600)


def rclone_config(work: Path, origin: Peer) -> Path:
    config = work / "rclone.conf"
    config.write_text(
        f"[origin]\ntype = s3\nprovider = Other\nendpoint = {origin.url}\naccess_key_id = {origin.key}\n"
        f"secret_access_key = {origin.secret}\nforce_path_style = true\nregion = us-east-1\n"
    )
    return config


@contextmanager
def rclone(work: Path, origin: Peer) -> Iterator[Path]:
    work.mkdir()
    command = [
        str(BIN / "rclone"), "--config", str(rclone_config(work, origin)), "--cache-dir", str(work / "cache"),
        "mount", "origin:", str(work / "mnt"), "--vfs-cache-mode", "full", "--vfs-cache-max-size", "20G", "--dir-cache-time", "1h",
        "--attr-timeout", "1s", "--vfs-fast-fingerprint", "--no-modtime",
    ]  # fmt: skip
    with _mounted(command, work, work / "mnt") as point:
        yield point


@contextmanager
def juicefs(work: Path, data: Path) -> Iterator[Path]:
    """JuiceFS over a local object directory and SQLite, filled through itself."""
    work.mkdir()
    meta = f"sqlite3://{work}/meta.db"
    subprocess.run(
        [str(BIN / "juicefs"), "format", "--storage", "file", "--bucket", f"{work}/objects/", meta, "bench"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command = [str(BIN / "juicefs"), "mount", "--no-usage-report", "--cache-dir", str(work / "cache"), meta, str(work / "mnt")]
    with _mounted(command, work, work / "mnt") as point:
        for name in ("large", "small"):
            subprocess.run(["cp", "-r", str(data / name), str(point)], check=True, timeout=600)
        yield point


if __name__ == "__main__":
    main()
