"""Writes with the store apart: small ones and long ones, whole and in parts, beside going direct and `rclone serve s3`.

HEADRACE_BENCH_MULTIPART_MIB: how long the object is that is sent in parts (1024).
"""

from __future__ import annotations

import os

import peers
from load import ROUNDS, in_turn, peak_rss_bytes, ratio, rss_bytes
from report import Row, emit
from write_load import MIB, pinned, put_large, put_parts
from write_site import Site, site, small_writes

LARGE_BYTES, PART_BYTES = 64 * MIB, 16 * MIB
MULTIPART_MIB = int(os.environ.get("HEADRACE_BENCH_MULTIPART_MIB", "1024"))


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


def _beside(what: str, found: dict[str, list[float]], at: Site) -> Row:
    ours, direct = found[at.node.name], found[at.origin.name]
    return Row(what, ratio(ours, direct), 0.85, ours=ours, theirs=direct)


def main() -> None:
    with site(apart=True) as at:
        rows = small_writes(at, apart=True) + large_writes(at)
    emit("writes", "Writes, the store apart: one core is its own, front and load share the other", rows)


if __name__ == "__main__":
    main()
