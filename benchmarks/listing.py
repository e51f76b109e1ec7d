"""ListObjectsV2 over a million keys in one prefix: rate beside rclone's warm rate, and growth of memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import peers
from clients import Client
from load import rss_bytes
from peers import Peer
from report import Row, emit

MIB = 1 << 20
KEYS = int(os.environ.get("HEADRACE_BENCH_KEYS", "1000000"))
RCLONE_PAGES = 20


async def list_keys(peer: Peer, *, pages: int | None = None) -> tuple[int, float]:
    """Keys listed and seconds taken; at most `pages` pages."""
    count, token = 0, ""
    began = time.monotonic()
    async with Client(peer) as client:
        while pages is None or pages > 0:
            tail = f"&continuation-token={quote(token, safe='')}" if token else ""
            body = (await client.get(f"/many?list-type=2&max-keys=1000{tail}")).decode()
            count += body.count("<Key>")
            found = re.search(r"<NextContinuationToken>([^<]*)<", body)
            if found is None:
                break
            token = found[1]
            pages = None if pages is None else pages - 1
    return count, time.monotonic() - began


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        many = work / "data" / "many"
        many.mkdir(parents=True)
        for number in range(KEYS):
            os.close(os.open(many / f"key-{number:09d}", os.O_CREAT | os.O_WRONLY))
        mount = f'[[mount]]\npath = "/many"\nstore = "file://{many}"\n'
        node = stack.enter_context(peers.headrace(work, mount, processes=1))
        rclone = stack.enter_context(peers.rclone_local(work, work / "data"))
        worker = peers.worker_pids(node)[0]
        asyncio.run(list_keys(node, pages=2))
        before = rss_bytes(worker)
        count, seconds = asyncio.run(list_keys(node))
        grown = rss_bytes(worker) - before
        if count != KEYS:
            raise RuntimeError(f"listed {count} keys of {KEYS}")
        asyncio.run(list_keys(rclone, pages=1))
        their_count, their_seconds = asyncio.run(list_keys(rclone, pages=RCLONE_PAGES))
        ours, theirs = count / seconds, their_count / their_seconds
        emit(
            "listing",
            f"ListObjectsV2 over {KEYS:,} keys",
            [
                Row(
                    f"keys a second ÷ rclone's warm rate (its first {RCLONE_PAGES} pages)",
                    ours / theirs,
                    5,
                    "at least",
                    [ours],
                    [theirs],
                ),
                Row("growth of resident memory while listing all, MiB", grown / MIB, 50, "at most", [float(grown)]),
            ],
        )


if __name__ == "__main__":
    main()
