"""ListObjectsV2 over a million keys in one prefix: rate beside rclone's warm rate, and growth of memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import peers
from clients import Client
from load import ROUNDS, in_turn, peak_rss_bytes, ratio, rss_bytes
from peers import Peer
from report import Row, emit

MIB = 1 << 20
KEYS = int(os.environ.get("HEADRACE_BENCH_KEYS", "1000000"))
RCLONE_PAGES = int(os.environ.get("HEADRACE_BENCH_RCLONE_PAGES", "2"))
"""rclone walks its whole directory for each page, so a few tell its rate; all thousand would take hours."""


async def list_keys(peer: Peer, *, pages: int | None = None, page_s: list[float] | None = None) -> tuple[int, float]:
    """Keys listed and seconds taken; at most `pages` pages. Each page's seconds go to `page_s`."""
    count, token = 0, ""
    began = time.monotonic()
    async with Client(peer) as client:
        while pages is None or pages > 0:
            tail = f"&continuation-token={quote(token, safe='')}" if token else ""
            asked = time.monotonic()
            body = (await client.get(f"/many?list-type=2&max-keys=1000{tail}")).decode()
            if page_s is not None:
                page_s.append(time.monotonic() - asked)
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
        many, few = work / "data" / "many", work / "few"
        many.mkdir(parents=True)
        few.mkdir()
        (few / "key").touch()
        for number in range(KEYS):
            os.close(os.open(many / f"key-{number:09d}", os.O_CREAT | os.O_WRONLY))
        mounts = "".join(f'[[mount]]\npath = "/{path.name}"\nstore = "file://{path}"\n' for path in (many, few))
        node = stack.enter_context(peers.headrace(work, mounts, processes=1))
        rclone = stack.enter_context(peers.rclone_local(work, work / "data"))
        worker = peers.worker_pids(node)[0]
        asyncio.run(_one_key(node))
        before = rss_bytes(worker)
        page_s: list[float] = []

        def ours() -> float:
            count, seconds = asyncio.run(list_keys(node, page_s=page_s))
            if count != KEYS:
                raise RuntimeError(f"listed {count} keys of {KEYS}")
            return count / seconds

        def theirs() -> float:
            count, seconds = asyncio.run(list_keys(rclone, pages=RCLONE_PAGES))
            return count / seconds

        asyncio.run(list_keys(rclone, pages=1))
        found = in_turn(ROUNDS, {"ours": ours, "theirs": theirs})
        grown = peak_rss_bytes(worker) - before
        emit(
            "listing",
            f"ListObjectsV2 over {KEYS:,} keys of one directory",
            [
                Row(
                    f"keys a second ÷ rclone's warm rate (its first {RCLONE_PAGES} pages)",
                    ratio(found["ours"], found["theirs"]),
                    5,
                    "at least",
                    found["ours"],
                    found["theirs"],
                ),
                Row(
                    "most resident memory while listing all − that before the first listing, MiB",
                    grown / MIB,
                    50,
                    "at most",
                    [grown / MIB],
                ),
                Row("request to whole answer, one page of 1,000 keys, ms (p50)", statistics.median(page_s) * 1e3),
                Row("the slowest page: the first, that reads the directory, s", max(page_s)),
            ],
        )


async def _one_key(node: Peer) -> None:
    """A listing of another directory, so that what every first request loads is loaded."""
    async with Client(node) as client:
        await client.get("/few?list-type=2")


if __name__ == "__main__":
    main()
