"""Cold reads: over the shaped link beside going direct, the latency that a miss adds, and many clients on one cold object."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import peers
from clients import Client, get
from load import ROUNDS
from peers import Peer
from report import Row, emit
from shaped import ShapedLink, shaped_link

KIB, MIB = 1 << 10, 1 << 20
SEQUENTIAL = 256 * MIB
RANDOM_READS = 40
CLIENTS = 256
SMALL_READS = 200
IN_TURN = 10


def mount(path: str, endpoint: str, *, freshness: str = "1h") -> str:
    return f'[[mount]]\npath = "{path}"\nstore = "s3://cold"\nendpoint = "{endpoint}"\ncredentials = "env:ORIGIN"\nfreshness = "{freshness}"\n\n'


def sequential(work: Path, origin: Peer, link: ShapedLink, round_: int) -> tuple[float, float]:
    """Seconds for 256 MiB, cold through Headrace and direct, over the shaped link."""
    with peers.headrace(work, mount("/cold", link.url), name=f"seq{round_}") as node:
        began = time.monotonic()
        size = asyncio.run(get(node, "/cold/256m.bin"))
        ours = time.monotonic() - began
    direct = Peer("direct", link.url, (), signed=True)
    began = time.monotonic()
    theirs_size = asyncio.run(get(direct, "/cold/256m.bin"))
    theirs = time.monotonic() - began
    if size != SEQUENTIAL or theirs_size != SEQUENTIAL:
        raise RuntimeError("short read")
    return ours, theirs


def random_reads(work: Path, link: ShapedLink, round_: int) -> tuple[float, float]:
    """Median seconds of 64 KiB reads at random places, cold, on one connection."""
    rng = random.Random(round_)
    places = [rng.randrange(0, SEQUENTIAL - 64 * KIB) for _ in range(RANDOM_READS)]
    direct = Peer("direct", link.url, (), signed=True)
    with peers.headrace(work, mount("/cold", link.url), name=f"rnd{round_}") as node:
        ours = asyncio.run(timed_ranges(node, places, 64 * KIB))
    theirs = asyncio.run(timed_ranges(direct, places, 64 * KIB))
    return statistics.median(ours), statistics.median(theirs)


async def timed_ranges(peer: Peer, places: list[int], size: int) -> list[float]:
    found = []
    async with Client(peer) as client:
        await client.get("/cold/256m.bin", (0, 1))
        for place in places:
            began = time.monotonic()
            body = await client.get("/cold/256m.bin", (place, place + size))
            found.append(time.monotonic() - began)
            if len(body) != size:
                raise RuntimeError("short range")
    return found


def added_latency(work: Path, origin: Peer, round_: int) -> tuple[float, float]:
    """Median milliseconds of cold 4 KiB reads, ours and direct, on the unshaped loopback."""
    direct = Peer("direct", origin.url, (), signed=True)
    names = [f"/cold/small-{round_}-{number}" for number in range(SMALL_READS)]
    with peers.headrace(work, mount("/cold", origin.url), name=f"lat{round_}") as node:
        ours, theirs = asyncio.run(timed_in_turn(node, direct, names))
    return 1000 * statistics.median(ours), 1000 * statistics.median(theirs)


async def timed_in_turn(node: Peer, direct: Peer, names: list[str]) -> tuple[list[float], list[float]]:
    """Seconds of each read, ours and direct, over one warm connection each.

    In turn, some at a time, and each side first every other time: so a slow moment of the machine, and what the store
    remembers of an object, meet both alike; and reads follow each other at once, with the work that one leaves behind it.
    """
    ours: list[float] = []
    theirs: list[float] = []
    async with Client(node) as through, Client(direct) as straight:
        for client in (through, straight):
            await client.get("/cold/256m.bin", (0, 1))
        for start in range(0, len(names), IN_TURN):
            sides = [(through, ours), (straight, theirs)]
            for client, found in sides if start // IN_TURN % 2 else reversed(sides):
                found += [await timed(client, name) for name in names[start : start + IN_TURN]]
    return ours, theirs


async def timed(client: Client, name: str) -> float:
    began = time.monotonic()
    body = await client.get(name)
    seconds = time.monotonic() - began
    if len(body) != 4 * KIB:
        raise RuntimeError("short read")
    return seconds


def herd(work: Path, link: ShapedLink, round_: int) -> float:
    """Bytes drawn from the store for 256 clients that read one cold 64 MiB object, as a share of the object."""
    with peers.headrace(work, mount("/cold", link.url), processes=2, name=f"herd{round_}") as node:
        before = link.bytes_down()
        sizes = asyncio.run(many(node))
        drawn = link.bytes_down() - before
    if set(sizes) != {64 * MIB}:
        raise RuntimeError("a client got another length")
    return drawn / (64 * MIB)


async def many(node: Peer) -> list[int]:
    return await asyncio.gather(*(get(node, "/cold/64m.bin") for _ in range(CLIENTS)))


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        data = work / "upload"
        data.mkdir()
        (data / "256m.bin").write_bytes(os.urandom(SEQUENTIAL))
        (data / "64m.bin").write_bytes(os.urandom(64 * MIB))
        for round_ in range(ROUNDS):
            for number in range(SMALL_READS):
                (data / f"small-{round_}-{number}").write_bytes(os.urandom(4 * KIB))
        origin = stack.enter_context(peers.seaweed(work))
        peers.upload(origin, "cold", data)
        link = stack.enter_context(shaped_link(origin.url, rtt="40ms", rate="200mbit"))
        fast = stack.enter_context(shaped_link(origin.url, rtt="0ms", rate="8gbit"))
        seq = [sequential(work, origin, link, n) for n in range(ROUNDS)]
        rnd = [random_reads(work, link, n) for n in range(ROUNDS)]
        added = [added_latency(work, origin, n) for n in range(ROUNDS)]
        herds = [herd(work, fast, n) for n in range(ROUNDS)]
        emit(
            "cold_reads",
            "Cold reads (link: 40 ms round trip, 200 Mbit/s)",
            [
                Row(
                    "sequential 256 MiB, time ÷ direct",
                    statistics.median(a / b for a, b in seq),
                    1.05,
                    "at most",
                    *zip(*seq, strict=True),
                ),
                Row(
                    "random 64 KiB, time ÷ direct",
                    statistics.median(a / b for a, b in rnd),
                    1.2,
                    "at most",
                    *zip(*rnd, strict=True),
                ),
                Row(
                    "added latency of a cold 4 KiB read, unshaped, ms (p50)",
                    statistics.median(a - b for a, b in added),
                    1.0,
                    "at most",
                    *zip(*added, strict=True),
                ),
                Row("256 clients on one cold 64 MiB object: store bytes ÷ object", max(herds), 1.05, "at most", herds),
            ],
        )


if __name__ == "__main__":
    main()
