"""A page directory of a million segments: start, memory, the keeper's CPU, and starting again after kill -9."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
from headrace.cache.layout import Geometry, object_id
from headrace.model.mounts import MountSpec
from headrace.stores.file_listing import file_info
from load import cpu_seconds, rss_bytes
from page_maker import make_neighbours, make_pages
from peers import Peer
from report import Row, emit

MIB = 1 << 20
PAGES = int(os.environ.get("HEADRACE_BENCH_PAGES", "1000000"))
REAL, NEIGHBOURS, BIG = 5_000, 4_096, 4
_GEOMETRY = Geometry(64 * 1024)
_PATIENCE_S = 120.0


class Rig:
    """One home with its page directory, and a directory of objects behind it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.data = work / "data"
        self.pages = work / "node" / "state" / "pages"
        self.spec = MountSpec("/data", store=f"file://{self.data}", freshness="1h", anonymous=True)

    def make(self) -> None:
        """The objects, all of them read once, and the pages of a million others. Takes minutes."""
        self.data.mkdir()
        for number in range(REAL):
            (self.data / f"real-{number}").write_bytes(f"object {number}".encode() * 20)
        for number in range(BIG):
            with open(self.data / f"big-{number}", "wb") as file:
                file.truncate(1 << 30)
        with self.node(1 << 40) as node:
            for number in range(REAL):
                self.read(node, number)
        make_pages(self.pages, _GEOMETRY, self.spec.identity(), PAGES)

    def node(self, capacity: int) -> contextlib.AbstractContextManager[Peer]:
        mount = f'[[mount]]\npath = "/data"\nstore = "{self.spec.store}"\nfreshness = "1h"\nanonymous = true\n'
        cache = f'[cache]\npage = "64KiB"\ndisk = [{{ path = "pages", capacity = "{capacity}B" }}]\n\n'
        return peers.headrace(self.work, cache + mount)

    def read(self, node: Peer, number: int) -> str:
        """One object, checked; how it was served."""
        with urllib.request.urlopen(f"{node.url}/data/real-{number}", timeout=30) as answer:
            if answer.read() != f"object {number}".encode() * 20:
                raise RuntimeError(f"real-{number}: wrong bytes")
            return str(answer.headers["x-headrace-cache"])

    def segments(self) -> int:
        """What the keeper has accounted for."""
        command = [sys.executable, "-m", "headrace", "--config", str(self.work / "node" / "headrace.toml"), "status", "--json"]
        status = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return sum(tier["segments"] for tier in status["tiers"] if tier["name"].endswith("pages"))

    def names(self) -> Iterator[str]:
        for number in range(4096):
            with contextlib.suppress(FileNotFoundError):
                yield from os.listdir(self.pages / f"{number:03x}")

    def fills(self) -> bool:
        """Whether a large object is being filled right now."""
        ids = [object_id(self.spec.identity(), f"big-{number}", self._token(f"big-{number}")).hex() for number in range(BIG)]
        for name in ids:
            with contextlib.suppress(FileNotFoundError):
                if any(found.startswith(name) and found.endswith(".part") for found in os.listdir(self.pages / name[:3])):
                    return True
        return False

    def _token(self, key: str) -> str:
        return file_info(key, (self.data / key).stat()).version.token

    def left_over(self) -> tuple[int, int]:
        """Half-made files, and files of no use: these, and checksums without a segment."""
        names = set(self.names())
        half = sum(name.endswith(".part") for name in names)
        return half, half + sum(name.endswith(".sum") and name[:-4] not in names for name in names)


def keeper_pid(node: Peer) -> int:
    return next(pid for pid in node.pids if b"headrace.node.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes())


def wait_for(what: str, holds: Callable[[], bool], *, every_s: float = 0.2) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come to hold in {_PATIENCE_S:g} s")
        time.sleep(every_s)


def first_answer(rig: Rig, capacity: int, stack: contextlib.ExitStack) -> tuple[Peer, float, str]:
    """A node that was started, the seconds until it gave the first right bytes, and how it served them."""
    began = time.monotonic()
    node = stack.enter_context(rig.node(capacity))
    served = rig.read(node, REAL - 1)
    return node, time.monotonic() - began, served


def taken_in(rig: Rig) -> list[Row]:
    """Start on all pages; memory and CPU until the keeper knows them all and every real object was read."""
    with contextlib.ExitStack() as stack:
        node, seconds, served = first_answer(rig, 1 << 40, stack)
        if served != "hit":
            raise RuntimeError(f"the first answer was a {served}: the pages do not count")
        keeper, worker = keeper_pid(node), peers.worker_pids(node)[0]
        wait_for("the keeper's knowledge", lambda: rig.segments() >= PAGES + REAL, every_s=2.0)
        cpu, keeper_rss = cpu_seconds([keeper]), rss_bytes(keeper)
        hits = sum(rig.read(node, number) == "hit" for number in range(REAL))
        if hits != REAL:
            raise RuntimeError(f"{hits} hits of {REAL}")
        return [
            Row("start to the first right answer, from the cache, s", seconds, 5, "at most", [seconds]),
            Row(
                f"resident memory of a serving process that has read {REAL:,} of them, MiB",
                rss_bytes(worker) / MIB,
                250,
                "at most",
            ),
            Row("CPU of the keeper until it knows all, s", cpu, 10, "at most"),
            Row("resident memory of the keeper, MiB", keeper_rss / MIB),
        ]


def killed(rig: Rig, capacity: int, what: str, begun: Callable[[], bool]) -> Row:
    """kill -9 of all processes once `begun` holds, while large objects are being filled; then the start after it."""
    with rig.node(capacity) as node:
        wait_for(what, begun, every_s=0.01)
        readers = [threading.Thread(target=_drain, args=(f"{node.url}/data/big-{number}",)) for number in range(BIG)]
        for reader in readers:
            reader.start()
        wait_for("a fill", rig.fills, every_s=0)
        for pid in node.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for reader in readers:
            reader.join()
    half, _ = rig.left_over()
    if not half:
        raise RuntimeError("nothing was half made when the node was killed")
    with contextlib.ExitStack() as stack:
        _, seconds, _ = first_answer(rig, 1 << 40, stack)
    return Row(f"after kill -9 while filling and {what}: start to the first right answer, s", seconds, 5, "at most", [seconds])


def tidied(rig: Rig) -> list[Row]:
    """What is left over when the keeper of the next node has seen all folders once."""
    with rig.node(1 << 40) as node:
        have = sum(1 for name in rig.names() if "." in name and not name.endswith((".part", ".sum", ".pin")))
        wait_for("the keeper's knowledge", lambda: rig.segments() >= have, every_s=2.0)
        rig.read(node, 0)
        half, orphans = rig.left_over()
    return [
        Row("half pages left when the keeper has seen all folders", half, 0, "at most"),
        Row("files of no use ÷ all segments, %", 100 * orphans / have, 1, "at most"),
    ]


def _drain(url: str) -> None:
    """Read until the server is killed."""
    with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=60) as answer:
        while answer.read(MIB):
            pass


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        rig = Rig(Path(folder))
        rig.make()
        rows = taken_in(rig)
        wholes = make_neighbours(rig.pages, _GEOMETRY, rig.spec.identity(), NEIGHBOURS)
        rows.append(killed(rig, 1 << 40, "merging", lambda: any((rig.pages / name.path).exists() for name in wholes)))
        first = rig.pages / "000"
        full = len(os.listdir(first))
        rows.append(killed(rig, PAGES * 3072, "evicting", lambda: len(os.listdir(first)) < full))
        rows += tidied(rig)
        emit("million_pages", f"A page directory of {PAGES:,} pages, one serving process", rows, rounds=1)


if __name__ == "__main__":
    main()
