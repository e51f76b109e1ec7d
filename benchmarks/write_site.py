"""The store of the write measurements and what stands before it, and small writes through all of it.

Apart, the store has one core, and the front (Headrace with one serving process, or rclone) shares the other with the load, as
if the store were another machine; what goes direct comes from that core, too. Else all share both cores, and Headrace has two
serving processes.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
from load import ROUNDS, SECONDS, cpu_seconds, in_turn, ratio
from peers import Peer
from report import Row
from shaped import shaped_link
from write_load import Small, pinned, rate

STORE_CPU, FRONT_CPU = 0, 1
PUTS = Small("writes", 16)


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
