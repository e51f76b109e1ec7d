"""Warm reads of one serving process beside rclone, SeaweedFS, JuiceFS, nginx and the bare sketch."""

from __future__ import annotations

import contextlib
import os
import tempfile
import urllib.request
from pathlib import Path

import peers
from load import ROUNDS, in_turn, ratio, signed, wrk
from peers import Peer
from report import Row, emit

SERVER_CPU, LOAD_CPU = 0, 1
KIB, MIB = 1 << 10, 1 << 20
CASES = (
    ("GET 4 KiB", "4k.bin", {}, 16),
    ("64 KiB range of 64 MiB", "64m.bin", {"Range": "bytes=16777216-16842751"}, 16),
    ("GET 1 MiB", "1m.bin", {}, 8),
    ("GET 64 MiB", "64m.bin", {}, 4),
)
WANTED = {
    ("small", "rclone serve s3"): 4.0,
    ("small", "SeaweedFS S3"): 6.0,
    ("small", "JuiceFS gateway"): 12.0,
    ("small", "nginx proxy_cache"): 0.45,
    ("small", "bare sketch"): 0.75,
    ("large", "rclone serve s3"): 1.8,
    ("large", "nginx proxy_cache"): 0.6,
    ("large", "bare sketch"): 0.75,
}


def fill(data: Path) -> None:
    data.mkdir()
    for name, size in (("4k.bin", 4 * KIB), ("1m.bin", MIB), ("64m.bin", 64 * MIB)):
        (data / name).write_bytes(os.urandom(size))


def fetch(peer: Peer, path: str, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(peer.url + peer.prefix + path, headers=signed(peer, peer.prefix + path, headers))
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        data = work / "data" / "bench"
        data.parent.mkdir()
        fill(data)
        origin = stack.enter_context(peers.seaweed(work, cpu=SERVER_CPU))
        peers.upload(origin, "bench", data)
        mount = f'[[mount]]\npath = "/bench"\nstore = "s3://bench"\nendpoint = "{origin.url}"\ncredentials = "env:ORIGIN"\nfreshness = "1h"\n'
        ours = stack.enter_context(peers.headrace(work, mount, processes=1, cpu=SERVER_CPU))
        juicefs = stack.enter_context(peers.juicefs(work, cpu=SERVER_CPU))
        peers.upload(juicefs, "bench", data)
        others = [
            stack.enter_context(peers.rclone(work, origin, cpu=SERVER_CPU)),
            origin,
            juicefs,
            stack.enter_context(peers.nginx(work, data.parent, cpu=SERVER_CPU)),
            stack.enter_context(peers.sketch(work, data.parent, cpu=SERVER_CPU)),
        ]
        rows: list[Row] = []
        for title, name, headers, connections in CASES:
            rows += compare(title, f"/bench/{name}", headers, connections, ours, others, data / name)
        emit("warm_reads", "Warm reads, one serving process", rows)


def compare(
    title: str, path: str, headers: dict[str, str], connections: int, ours: Peer, others: list[Peer], file: Path
) -> list[Row]:
    body = file.read_bytes()
    expected = body[16777216:16842752] if headers else body
    for peer in (ours, *others):
        for _ in range(3):
            got = fetch(peer, path, headers)
        if got != expected:
            raise RuntimeError(f"{peer.name} answers {path} with other bytes")
    rates = in_turn(
        ROUNDS,
        {
            peer.name: lambda peer=peer: wrk(peer, path, headers=headers, connections=connections, cpu=LOAD_CPU).requests
            for peer in (ours, *others)
        },
    )
    size = "large" if len(expected) >= MIB else "small"
    return [
        Row(
            f"{title}, × {peer.name}",
            ratio(rates[ours.name], rates[peer.name]),
            WANTED.get((size, peer.name)),
            "at least",
            rates[ours.name],
            rates[peer.name],
        )
        for peer in others
    ]


if __name__ == "__main__":
    main()
