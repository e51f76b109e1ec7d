"""`headrace sync` of an unchanged prefix beside the store's own listing of it: time, and growth of memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers
from headrace.console.client import AdminClient, need_server
from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec, WriteMode
from headrace.model.writing import BytesBody
from headrace.stores.registry import open_store
from listing import list_keys
from load import ROUNDS, in_turn, peak_rss_bytes, ratio, rss_bytes
from peers import KEY, SECRET, Peer
from report import Row, emit

MIB = 1 << 20
KEYS = int(os.environ.get("HEADRACE_BENCH_KEYS", "1000000"))
S3_KEYS = int(os.environ.get("HEADRACE_BENCH_S3_KEYS", "50000"))
"""Of the S3 store, whose pages take ten times as long as a directory's."""
_WRITERS = 32

_BARE = """
import asyncio, os, sys, time
from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.stores.registry import open_store

async def main(url):
    store = open_store(MountSpec("/", url), clock=SystemClock(), environ=os.environ)
    began, count, after = time.monotonic(), 0, ""
    while after is not None:
        page = await store.list(after=after, limit=1000)
        count, after = count + len(page.entries), page.after
    print(count, time.monotonic() - began)

asyncio.run(main(sys.argv[1]))
"""


def bare(url: str) -> float:
    """Seconds in which a process of its own lists a directory through the bare store, page by page."""
    out = subprocess.run([sys.executable, "-c", _BARE, url], capture_output=True, text=True, check=True).stdout
    count, seconds = out.split()
    if int(count) != KEYS:
        raise RuntimeError(f"listed {count} keys of {KEYS}")
    return float(seconds)


def sync(node: AdminClient, path: str, keys: int) -> float:
    """Seconds from the question to the last count."""
    began = time.monotonic()
    found = node.survey(path, lambda _found: None)
    if found.objects != keys or found.added or found.changed or found.deleted:
        raise RuntimeError(f"{path}: {found}")
    return time.monotonic() - began


async def fill(spec: MountSpec, environ: dict[str, str]) -> None:
    store = open_store(spec, clock=SystemClock(), environ=environ)
    await store.buckets().create("many")
    numbers = iter(range(S3_KEYS))

    async def write() -> None:
        for number in numbers:
            await store.write(f"many/key-{number:09d}", BytesBody(b"x"))

    await asyncio.gather(*(write() for _ in range(_WRITERS)))
    await store.close()


def listed(peer: Peer) -> float:
    count, seconds = asyncio.run(list_keys(peer))
    if count != S3_KEYS:
        raise RuntimeError(f"{peer.name} listed {count} keys of {S3_KEYS}")
    return seconds


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        many, few = work / "many", work / "few"
        many.mkdir()
        few.mkdir()
        for number in range(KEYS):
            os.close(os.open(many / f"key-{number:09d}", os.O_CREAT | os.O_WRONLY))
        weed = stack.enter_context(peers.seaweed(work))
        keys = {"ORIGIN_ACCESS_KEY_ID": KEY, "ORIGIN_SECRET_ACCESS_KEY": SECRET}
        account = MountSpec(
            "/", "s3://", endpoint=weed.url, credentials="env:ORIGIN", write=WriteMode.THROUGH, create_buckets=True
        )
        asyncio.run(fill(account, keys))
        mounts = "".join(f'[[mount]]\npath = "/{path.name}"\nstore = "file://{path}"\n' for path in (many, few))
        mounts += f'[[mount]]\npath = "/s3"\nstore = "s3://many"\nendpoint = "{weed.url}"\ncredentials = "env:ORIGIN"\n'
        peer = stack.enter_context(peers.headrace(work, mounts, processes=1, env=keys))
        node = need_server(work / "node" / "state", "127.0.0.1:0")
        worker = peers.worker_pids(peer)[0]
        node.survey("/few", lambda _found: None)
        before = rss_bytes(worker)
        first = sync(node, "/many", KEYS)
        sync(node, "/s3", S3_KEYS)
        found = in_turn(
            ROUNDS,
            {
                "ours": lambda: sync(node, "/many", KEYS),
                "theirs": lambda: bare(f"file://{many}"),
                "ours, S3": lambda: sync(node, "/s3", S3_KEYS),
                "theirs, S3": lambda: listed(weed),
            },
        )
        grown = (peak_rss_bytes(worker) - before) / MIB
        emit(
            "sync_listing",
            f"`headrace sync` of an unchanged prefix of {KEYS:,} objects",
            [
                Row(
                    "time ÷ listing the bare directory store",
                    ratio(found["ours"], found["theirs"]),
                    1.2,
                    "at most",
                    found["ours"],
                    found["theirs"],
                ),
                Row(
                    f"the same of {S3_KEYS:,} objects in SeaweedFS, ÷ listing it directly",
                    ratio(found["ours, S3"], found["theirs, S3"]),
                    1.2,
                    "at most",
                    found["ours, S3"],
                    found["theirs, S3"],
                ),
                Row("most resident memory of the serving process − that before, MiB", grown, 100, "at most", [grown]),
                Row("the first sync, which has nothing to compare with, s", first),
            ],
        )


if __name__ == "__main__":
    main()
