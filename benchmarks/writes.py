"""Writes: small ones beside going direct and rclone, among reads, large ones, in parts, write-back over the shaped link, replay.

Where it says "store apart", the store has one core, and the front (Headrace with one serving process, or rclone) shares the
other with the load, as if the store were another machine; the load goes direct from that core, too. Else all share both cores,
and Headrace has two serving processes. HEADRACE_BENCH_MULTIPART_MIB: how long the object is that is sent in parts (1024).
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
from load import ROUNDS, SECONDS, cpu_seconds, in_turn, peak_rss_bytes, ratio, rss_bytes
from peers import Peer
from report import Row, emit
from shaped import shaped_link
from write_load import KIB, MIB, Small, pinned, put_large, put_parts, rate, reads_beside

STORE_CPU, FRONT_CPU = 0, 1
WRITERS = 32
LARGE_BYTES, PART_BYTES = 64 * MIB, 16 * MIB
MULTIPART_MIB = int(os.environ.get("HEADRACE_BENCH_MULTIPART_MIB", "1024"))
PUTS = Small("writes", 16)
Rounds = dict[str, list[float]]


@dataclass(frozen=True)
class Site:
    """A store and what stands before it; the load runs on `cpu` (None: anywhere). `far` is the store over the shaped link."""

    origin: Peer
    node: Peer
    rclone: Peer
    far: Peer
    cpu: int | None


@contextmanager
def site(*, apart: bool) -> Iterator[Site]:
    """All servers, started and stopped."""
    store, front = (STORE_CPU, FRONT_CPU) if apart else (None, None)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        seed = work / "seed"
        seed.mkdir()
        (seed / "seed").write_bytes(b"x")
        origin = stack.enter_context(peers.seaweed(work, cpu=store))
        for bucket in ("writes", "others"):
            peers.upload(origin, bucket, seed)
        link = stack.enter_context(shaped_link(origin.url, rtt="40ms", rate="200mbit"))
        mounts = (
            _mount("/writes", origin.url, "through")
            + _mount("/others", origin.url, "through", bucket="others")
            + _mount("/slow", link.url, "back")
        )
        node = stack.enter_context(peers.headrace(work, mounts, processes=1 if apart else 2, cpu=front))
        rclone = stack.enter_context(peers.rclone(work, origin, cpu=front, writes_through=True))
        yield Site(origin, node, rclone, Peer("direct, 40 ms", link.url, (), signed=True), front)


def _mount(path: str, endpoint: str, write: str, *, bucket: str = "writes") -> str:
    return (
        f'[[mount]]\npath = "{path}"\nstore = "s3://{bucket}"\nendpoint = "{endpoint}"\ncredentials = "env:ORIGIN"\n'
        f'write = "{write}"\n\n'
    )


def small_writes(at: Site, *, apart: bool) -> list[Row]:
    """4 KiB, `write = "through"`. Where the store has a core of its own, also what a write costs the front and the store."""
    spent: dict[str, list[tuple[float, float]]] = {}

    def measure(peer: Peer) -> float:
        before = cpu_seconds(at.origin.pids), cpu_seconds(peer.pids)
        found = rate(peer, PUTS)[0]
        writes = found * SECONDS
        used = (cpu_seconds(at.origin.pids) - before[0]) / writes, (cpu_seconds(peer.pids) - before[1]) / writes
        spent.setdefault(peer.name, []).append((used[0] * 1e6, used[1] * 1e6))
        return found

    with pinned(at.cpu):
        for peer in (at.node, at.origin, at.rclone):
            rate(peer, PUTS)
        found = in_turn(ROUNDS, {peer.name: lambda peer=peer: measure(peer) for peer in (at.node, at.origin, at.rclone)})
    ours, direct, theirs = found[at.node.name], found[at.origin.name], found[at.rclone.name]
    place = "store apart" if apart else "cores shared"
    rows = [
        Row(f"PUT 4 KiB, through, {place}, × direct", ratio(ours, direct), 0.8 if apart else None, ours=ours, theirs=direct),
        Row(
            f"PUT 4 KiB, through, {place}, × rclone serve s3", ratio(ours, theirs), None if apart else 2, ours=ours, theirs=theirs
        ),
    ]
    if apart:
        rows.append(Row("— direct, × rclone serve s3", ratio(direct, theirs), ours=direct, theirs=theirs))
        rows.extend(_costs(spent[at.node.name], spent[at.rclone.name], spent[at.origin.name]))
    return rows


def _costs(ours: list[tuple[float, float]], rclone: list[tuple[float, float]], direct: list[tuple[float, float]]) -> list[Row]:
    """Microseconds of CPU per write."""
    front, theirs = [used for _, used in ours], [used for _, used in rclone]
    store, alone = [used for used, _ in ours], [used for used, _ in direct]
    return [
        Row("— CPU of the front per write, µs (rclone's)", statistics.median(front), ours=front, theirs=theirs),
        Row("— CPU of the store per write through Headrace, µs (direct)", statistics.median(store), ours=store, theirs=alone),
    ]


def among_reads(at: Site) -> list[Row]:
    """Reads of 4 KiB from the page cache, while every other request is a write."""
    reads, mixed = Small("writes", 16, ("GET",)), Small("writes", 16, ("GET", "PUT"))
    rate(at.node, reads)
    found = in_turn(
        ROUNDS,
        {
            "reads": lambda: rate(at.node, reads)[0],
            "mixed": lambda: rate(at.node, mixed)[0],
            "direct": lambda: rate(at.origin, mixed)[0],
        },
    )
    halves = [both / 2 for both in found["mixed"]]
    what = "every other request a PUT of 4 KiB"
    return [
        Row(f"{what}: reads ÷ reads alone", ratio(halves, found["reads"]), ours=halves, theirs=found["reads"]),
        Row(f"{what}, × direct", ratio(found["mixed"], found["direct"]), 0.8, ours=found["mixed"], theirs=found["direct"]),
    ]


def beside_writes(at: Site) -> list[Row]:
    """Reads of 4 KiB on 8 connections, while 8 others write as fast as they can: what is left, and what could be."""
    reads, writes = Small("writes", 8, ("GET",)), Small("others", 8)
    alone: list[float] = []
    beside: list[float] = []
    written: list[float] = []
    possible: list[float] = []
    for _ in range(ROUNDS):
        alone.append(rate(at.node, reads)[0])
        before = _front_seconds(at)
        cost_s = 1 / rate(at.node, writes)[0] / SECONDS
        cost_s *= _front_seconds(at) - before
        before = cpu_seconds(at.origin.pids)
        found, puts = reads_beside(at.node, reads, writes)
        taken_s = cpu_seconds(at.origin.pids) - before + puts * SECONDS * cost_s
        beside.append(found)
        written.append(puts)
        possible.append(alone[-1] * (1 - taken_s / SECONDS / (os.cpu_count() or 1)))
    what = "every other connection writes 4 KiB"
    return [
        Row(f"{what}: reads ÷ reads alone", ratio(beside, alone), ours=beside, theirs=alone),
        Row(f"{what}: reads ÷ what the processor time left allows", ratio(beside, possible), 0.7, ours=beside, theirs=possible),
        Row("— writes a second beside those reads", statistics.median(written), ours=written),
    ]


def _front_seconds(at: Site) -> float:
    """Processor time so far of Headrace and of all load. The store's is apart: reads from the page cache cost it none."""
    load = os.times()
    return cpu_seconds(at.node.pids) + load.children_user + load.children_system


def large_writes(at: Site) -> list[Row]:
    """One long body, whole and in parts, and what that does to memory."""
    body, part, count = os.urandom(LARGE_BYTES), os.urandom(PART_BYTES), max(1, MULTIPART_MIB * MIB // PART_BYTES)
    pids = peers.worker_pids(at.node)
    before = max(map(rss_bytes, pids))
    both = (at.node, at.origin)
    with pinned(at.cpu):
        large = in_turn(ROUNDS, {peer.name: lambda peer=peer: put_large(peer, "writes", body) for peer in both})
        grown = (max(map(rss_bytes, pids)) - before) / MIB
        idle = {pid: rss_bytes(pid) for pid in pids}
        parted = in_turn(ROUNDS, {peer.name: lambda peer=peer: put_parts(peer, "writes", part, count) for peer in both})
        peak = max((peak_rss_bytes(pid) - rss) / MIB for pid, rss in idle.items())
    return [
        _beside("PUT 64 MiB, store apart, × direct", large, at),
        Row("resident memory grown by PUT 64 MiB, MiB", grown, 64, "at most", [grown]),
        _beside(f"{count * PART_BYTES // MIB} MiB in parts of 16 MiB, store apart, × direct", parted, at),
        Row("most resident memory beyond idle while parts are sent, MiB", peak, 64, "at most", [peak]),
    ]


def _beside(what: str, found: Rounds, at: Site) -> Row:
    ours, direct = found[at.node.name], found[at.origin.name]
    return Row(what, ratio(ours, direct), 0.85, ours=ours, theirs=direct)


def write_back(at: Site) -> list[Row]:
    """4 KiB, `write = "back"`, over the shaped link."""
    puts = Small("slow", WRITERS)
    rate(at.node, puts)
    ours = [rate(at.node, puts) for _ in range(ROUNDS)]
    direct = [rate(at.far, Small("writes", WRITERS))[0] for _ in range(ROUNDS)]
    rates, waits = [found for found, _ in ours], [ms for _, ms in ours]
    name = f"PUT 4 KiB, back, 40 ms link, {WRITERS} writers"
    return [
        Row(f"{name}: p50, ms", statistics.median(waits), 5, "at most", waits),
        Row(f"{name}, × direct", ratio(rates, direct), 10, ours=rates, theirs=direct),
    ]


def replay() -> float:
    """Bytes a second of a journal of 4 KiB writes being opened."""
    from headrace.model.disk import SystemDisk
    from headrace.staging.journal import Journal
    from headrace.staging.records import Put, encode

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as root:
        journal = Journal(root, SystemDisk())
        body = os.urandom(4 * KIB)
        size = 0
        for group in range(60):
            records = [encode(Put(f"some/key/{group}/{number}", len(body), "e" * 32, 1.0), body) for number in range(1000)]
            journal.append(records)
            size += sum(map(len, records))
        journal.close()
        began = time.monotonic()
        again = Journal(root, SystemDisk())
        seconds = time.monotonic() - began
        if len(again.backlog) != 60_000:
            raise RuntimeError("the journal lost writes")
        again.close()
    return size / seconds


def main() -> None:
    with site(apart=True) as at:
        rows = small_writes(at, apart=True) + large_writes(at)
    with site(apart=False) as at:
        rows += small_writes(at, apart=False) + among_reads(at) + beside_writes(at) + write_back(at)
    replays = [replay() / 1e6 for _ in range(ROUNDS)]
    rows.append(Row("journal replay, MB/s", statistics.median(replays), 200, ours=replays))
    emit("writes", "Writes (store apart: it has one core, front and load the other; else all share both)", rows)


if __name__ == "__main__":
    main()
