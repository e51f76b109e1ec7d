"""Writes: small ones beside going direct and rclone, among reads, large ones, in parts, write-back over the shaped link, replay.

HEADRACE_BENCH_MULTIPART_MIB: how long the object is that is sent in parts (1024).
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import peers
from load import REGION, ROUNDS, SECONDS, in_turn, peak_rss_bytes, ratio, rss_bytes
from peers import Peer
from report import Row, emit
from shaped import shaped_link

KIB, MIB = 1 << 10, 1 << 20
KEYS = 64
WRITERS = 32
SMALL = b"x" * 4 * KIB
PART = 16 * MIB
PARTS_AT_ONCE = 4
MULTIPART_MIB = int(os.environ.get("HEADRACE_BENCH_MULTIPART_MIB", "1024"))


def signed(peer: Peer, method: str, target: str, body: bytes = b"") -> dict[str, str]:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method, peer.url + target, data=body)
    request.context["signing"] = {}
    S3SigV4Auth(Credentials(peer.key, peer.secret), "s3", REGION).add_auth(request)
    return dict(request.headers.items())


def rate(peer: Peer, bucket: str, *, connections: int, methods: tuple[str, ...] = ("PUT",)) -> tuple[float, float]:
    """4 KiB requests a second, `methods` in turn, and the median milliseconds of one, over `KEYS` keys, signed beforehand."""
    lines = [
        f'local body = string.rep("x", {4 * KIB})',
        "local texts = {}",
        "local at = math.random(1000)",
        "function init(args)",
    ]
    for number in range(KEYS):
        for method in methods:
            body, name = (SMALL, "body") if method == "PUT" else (b"", "nil")
            path = f"{peer.prefix}/{bucket}/{'other' if method != methods[0] else 'small'}-{number}"
            fields = ", ".join(f'["{field}"] = "{value}"' for field, value in signed(peer, method, path, body).items())
            lines.append(f'  texts[#texts + 1] = wrk.format("{method}", "{path}", {{{fields}}}, {name})')
    lines += ["end", "function request()", "  at = at % #texts + 1", "  return texts[at]", "end"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS:g}s", "--latency", "-s", script.name, peer.url]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx or 3xx responses: [1-9]|Socket errors: .*[1-9]", out):
        raise RuntimeError(f"{peer.name}: {out}")
    requests = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
    return requests, float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def reads_beside(peer: Peer) -> float:
    """4 KiB reads a second on 8 connections while 8 others write, each as fast as it can."""
    with ThreadPoolExecutor(2) as pool:
        reads = pool.submit(rate, peer, "writes", connections=8, methods=("GET",))
        writes = pool.submit(rate, peer, "others", connections=8)
        writes.result()
        return reads.result()[0]


def put_large(peer: Peer, bucket: str, body: bytes) -> float:
    """Bytes a second of one write."""
    path = f"{peer.prefix}/{bucket}/large"
    request = urllib.request.Request(peer.url + path, data=body, headers=signed(peer, "PUT", path, body), method="PUT")
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer.read()
    return len(body) / (time.monotonic() - began)


def put_parts(peer: Peer, bucket: str, part: bytes, count: int) -> float:
    """Bytes a second of one object in `count` parts, some at once; the requests are signed before the clock runs."""
    path = f"{peer.prefix}/{bucket}/parted"
    begun = ElementTree.fromstring(ask(peer, "POST", f"{path}?uploads=", b""))
    upload = begun.findtext("{*}UploadId") or ""
    targets = [f"{path}?partNumber={number}&uploadId={upload}" for number in range(1, count + 1)]
    headers = [signed(peer, "PUT", target, part) for target in targets]
    began = time.monotonic()

    def send(number: int) -> str:
        request = urllib.request.Request(peer.url + targets[number], data=part, headers=headers[number], method="PUT")
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.headers["etag"]

    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        tags = list(pool.map(send, range(count)))
    named = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in enumerate(tags, 1))
    ask(peer, "POST", f"{path}?uploadId={upload}", f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode())
    return len(part) * count / (time.monotonic() - began)


def ask(peer: Peer, method: str, target: str, body: bytes) -> bytes:
    headers = {"content-type": "application/xml"} | signed(peer, method, target, body)
    request = urllib.request.Request(peer.url + target, data=body, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read()


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


def mount(path: str, endpoint: str, write: str, *, bucket: str = "writes") -> str:
    return (
        f'[[mount]]\npath = "{path}"\nstore = "s3://{bucket}"\nendpoint = "{endpoint}"\ncredentials = "env:ORIGIN"\n'
        f'write = "{write}"\n\n'
    )


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        seed = work / "seed"
        seed.mkdir()
        (seed / "seed").write_bytes(b"x")
        origin = stack.enter_context(peers.seaweed(work))
        peers.upload(origin, "writes", seed)
        peers.upload(origin, "others", seed)
        link = stack.enter_context(shaped_link(origin.url, rtt="40ms", rate="200mbit"))
        mounts = (
            mount("/writes", origin.url, "through")
            + mount("/others", origin.url, "through", bucket="others")
            + mount("/slow", link.url, "back")
        )
        node = stack.enter_context(peers.headrace(work, mounts, processes=2))
        rclone = stack.enter_context(peers.rclone(work, origin, writes_through=True))
        far = Peer("direct, 40 ms", link.url, (), signed=True)
        small = in_turn(
            ROUNDS, {peer.name: lambda peer=peer: rate(peer, "writes", connections=16)[0] for peer in (node, origin, rclone)}
        )
        mixed = in_turn(
            ROUNDS,
            {
                name: lambda peer=peer, methods=methods: rate(peer, "writes", connections=16, methods=methods)[0]
                for name, peer, methods in (
                    ("reads", node, ("GET",)),
                    ("mixed", node, ("GET", "PUT")),
                    ("direct", origin, ("GET", "PUT")),
                )
            },
        )
        halves = in_turn(
            ROUNDS,
            {"alone": lambda: rate(node, "writes", connections=8, methods=("GET",))[0], "beside": lambda: reads_beside(node)},
        )
        body = os.urandom(64 * MIB)
        before = max(rss_bytes(pid) for pid in peers.worker_pids(node))
        large = in_turn(ROUNDS, {peer.name: lambda peer=peer: put_large(peer, "writes", body) for peer in (node, origin)})
        grown = (max(rss_bytes(pid) for pid in peers.worker_pids(node)) - before) / MIB
        part, count = os.urandom(PART), max(1, MULTIPART_MIB * MIB // PART)
        idle = {pid: rss_bytes(pid) for pid in peers.worker_pids(node)}
        parted = in_turn(ROUNDS, {peer.name: lambda peer=peer: put_parts(peer, "writes", part, count) for peer in (node, origin)})
        peak = max((peak_rss_bytes(pid) - before) / MIB for pid, before in idle.items())
        back = [rate(node, "slow", connections=WRITERS) for _ in range(ROUNDS)]
        direct = [rate(far, "writes", connections=WRITERS) for _ in range(ROUNDS)]
        replays = [replay() / 1e6 for _ in range(ROUNDS)]
        rates, theirs = [found for found, _ in back], [found for found, _ in direct]
        emit(
            "writes",
            "Writes",
            [
                Row(
                    "PUT 4 KiB, through, × direct",
                    ratio(small[node.name], small[origin.name]),
                    0.8,
                    "at least",
                    small[node.name],
                    small[origin.name],
                ),
                Row(
                    "PUT 4 KiB, through, × rclone serve s3",
                    ratio(small[node.name], small[rclone.name]),
                    2,
                    "at least",
                    small[node.name],
                    small[rclone.name],
                ),
                Row(
                    "every other request a PUT of 4 KiB: reads ÷ reads alone",
                    ratio(mixed["mixed"], mixed["reads"]) / 2,
                    0.7,
                    "at least",
                    [found / 2 for found in mixed["mixed"]],
                    mixed["reads"],
                ),
                Row(
                    "every other connection writes 4 KiB: reads ÷ reads alone",
                    ratio(halves["beside"], halves["alone"]),
                    ours=halves["beside"],
                    theirs=halves["alone"],
                ),
                Row(
                    "every other request a PUT of 4 KiB, × direct",
                    ratio(mixed["mixed"], mixed["direct"]),
                    ours=mixed["mixed"],
                    theirs=mixed["direct"],
                ),
                Row(
                    "PUT 64 MiB, unshaped, × direct",
                    ratio(large[node.name], large[origin.name]),
                    0.85,
                    "at least",
                    large[node.name],
                    large[origin.name],
                ),
                Row("resident memory grown by PUT 64 MiB, MiB", grown, 64, "at most", [grown]),
                Row(
                    f"{count * PART // MIB} MiB in parts of 16 MiB, unshaped, × direct",
                    ratio(parted[node.name], parted[origin.name]),
                    0.85,
                    "at least",
                    parted[node.name],
                    parted[origin.name],
                ),
                Row("most resident memory beyond idle while parts are sent, MiB", peak, 64, "at most", [peak]),
                Row(
                    "PUT 4 KiB, back, 40 ms link, 32 writers: p50, ms",
                    statistics.median(ms for _, ms in back),
                    5,
                    "at most",
                    [ms for _, ms in back],
                ),
                Row("PUT 4 KiB, back, 40 ms link, 32 writers, × direct", ratio(rates, theirs), 10, "at least", rates, theirs),
                Row("journal replay, MB/s", statistics.median(replays), 200, "at least", replays),
            ],
        )


if __name__ == "__main__":
    main()
