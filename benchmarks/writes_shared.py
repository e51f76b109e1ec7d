"""Writes while store, front and load share both cores: small ones, among reads, write-back over the shaped link, replay."""

from __future__ import annotations

import os
import statistics
import tempfile
import time

from load import ROUNDS, SECONDS, cpu_seconds, in_turn, ratio
from report import Row, emit
from write_load import KIB, Small, rate, reads_beside
from write_site import Site, site, small_writes

WRITERS = 32


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
    with site(apart=False) as at:
        rows = small_writes(at, apart=False) + among_reads(at) + beside_writes(at) + write_back(at)
    replays = [replay() / 1e6 for _ in range(ROUNDS)]
    rows.append(Row("journal replay, MB/s", statistics.median(replays), 200, ours=replays))
    emit("writes_shared", "Writes, store, front and load on the same two cores", rows)


if __name__ == "__main__":
    main()
