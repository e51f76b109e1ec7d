"""From `headrace up` to the first answered request; memory of a serving process, idle and with a million cached pages."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import peers
from load import ROUNDS, rss_bytes
from report import Row, emit

MIB = 1 << 20
PAGES = int(os.environ.get("HEADRACE_BENCH_PAGES", "1000000"))


def start_once(work: Path, number: int, mount: str) -> tuple[float, int]:
    began = time.monotonic()
    with peers.headrace(work, mount, processes=1, name=f"node{number}") as node:
        try:
            urllib.request.urlopen(node.url + "/data/a.bin", timeout=10).read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"first request: {error.code}") from error
        return time.monotonic() - began, rss_bytes(peers.worker_pids(node)[0])


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        data = work / "data"
        data.mkdir()
        (data / "a.bin").write_bytes(b"x" * 4096)
        mount = f'[[mount]]\npath = "/data"\nstore = "file://{data}"\nanonymous = true\n'
        starts = [start_once(work, number, mount) for number in range(ROUNDS)]
        seconds, idle = [s for s, _ in starts], [float(r) for _, r in starts]
        emit(
            "startup_memory",
            "Start and memory",
            [
                Row("`headrace up` to the first answered request, s", statistics.median(seconds), 1.5, "at most", seconds),
                Row("resident memory of a serving process, idle, MiB", statistics.median(idle) / MIB, 80, "at most", idle),
            ],
        )


if __name__ == "__main__":
    main()
