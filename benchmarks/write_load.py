"""Load that writes: wrk with PUTs signed beforehand, and single long bodies, whole and in parts."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from xml.etree import ElementTree

from load import REGION, SECONDS
from peers import Peer

KIB, MIB = 1 << 10, 1 << 20
SMALL = b"x" * 4 * KIB
_KEYS = 64
_PARTS_AT_ONCE = 4


@dataclass(frozen=True)
class Small:
    """Requests of 4 KiB: `methods` in turn over keys of `bucket`, each connection as fast as it is answered."""

    bucket: str
    connections: int
    methods: tuple[str, ...] = ("PUT",)


def signed(peer: Peer, method: str, target: str, body: bytes = b"") -> dict[str, str]:
    """The headers of a request of which the body is signed, too."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method, peer.url + target, data=body)
    request.context["signing"] = {}
    S3SigV4Auth(Credentials(peer.key, peer.secret), "s3", REGION).add_auth(request)
    return dict(request.headers.items())


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """What this process does and starts meanwhile runs on one core."""
    allowed = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def rate(peer: Peer, small: Small) -> tuple[float, float]:
    """Requests a second, and the median milliseconds of one."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_script(peer, small))
        script.flush()
        command = ["wrk", "-t1", f"-c{small.connections}", f"-d{SECONDS:g}s", "--latency", "-s", script.name, peer.url]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx or 3xx responses: [1-9]|Socket errors: .*[1-9]", out):
        raise RuntimeError(f"{peer.name}: {out}")
    requests = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
    return requests, float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def _script(peer: Peer, small: Small) -> str:
    lines = [
        f'local body = string.rep("x", {len(SMALL)})',
        "local texts = {}",
        "local at = math.random(1000)",
        "function init(args)",
    ]
    for number in range(_KEYS):
        for method in small.methods:
            body, name = (SMALL, "body") if method == "PUT" else (b"", "nil")
            path = f"{peer.prefix}/{small.bucket}/{'other' if method != small.methods[0] else 'small'}-{number}"
            fields = ", ".join(f'["{field}"] = "{value}"' for field, value in signed(peer, method, path, body).items())
            lines.append(f'  texts[#texts + 1] = wrk.format("{method}", "{path}", {{{fields}}}, {name})')
    lines += ["end", "function request()", "  at = at % #texts + 1", "  return texts[at]", "end"]
    return "\n".join(lines)


def reads_beside(peer: Peer, reads: Small, writes: Small) -> tuple[float, float]:
    """Reads and writes a second, each on connections of their own at the same time."""
    with ThreadPoolExecutor(2) as pool:
        reading, writing = pool.submit(rate, peer, reads), pool.submit(rate, peer, writes)
        return reading.result()[0], writing.result()[0]


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
    begun = ElementTree.fromstring(_ask(peer, f"{path}?uploads=", b""))
    upload = begun.findtext("{*}UploadId") or ""
    targets = [f"{path}?partNumber={number}&uploadId={upload}" for number in range(1, count + 1)]
    headers = [signed(peer, "PUT", target, part) for target in targets]
    began = time.monotonic()

    def send(number: int) -> str:
        request = urllib.request.Request(peer.url + targets[number], data=part, headers=headers[number], method="PUT")
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.headers["etag"]

    with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        tags = list(pool.map(send, range(count)))
    named = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in enumerate(tags, 1))
    _ask(peer, f"{path}?uploadId={upload}", f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode())
    return len(part) * count / (time.monotonic() - began)


def _ask(peer: Peer, target: str, body: bytes) -> bytes:
    headers = {"content-type": "application/xml"} | signed(peer, "POST", target, body)
    request = urllib.request.Request(peer.url + target, data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read()
