"""Load and measuring: wrk with pre-signed headers, rounds in turn, medians and ratios."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers import Peer

ROUNDS = int(os.environ.get("HEADRACE_BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("HEADRACE_BENCH_SECONDS", "3"))
REGION = "us-east-1"


@dataclass(frozen=True)
class Rate:
    """Answers and bytes a second over one round."""

    requests: float
    bytes: float


def signed(peer: Peer, path: str, headers: dict[str, str]) -> dict[str, str]:
    """The headers of a GET of `path`, signed when the peer checks signatures."""
    if not peer.signed:
        return headers
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("GET", peer.url + path, headers=dict(headers))
    request.context["signing"] = {}
    S3SigV4Auth(Credentials(peer.key, peer.secret), "s3", REGION).add_auth(request)
    return dict(request.headers.items())


def wrk(peer: Peer, path: str, *, headers: dict[str, str] | None = None, connections: int = 16, cpu: int | None = None) -> Rate:
    """One round against one path."""
    lines = ['wrk.method = "GET"']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in signed(peer, peer.prefix + path, headers or {}).items()]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS:g}s", "-s", script.name, peer.url + peer.prefix + path]
        pinned = ["taskset", "-c", str(cpu), *command] if cpu is not None else command
        out = subprocess.run(pinned, capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx or 3xx responses: [1-9]|Socket errors: .*[1-9]", out):
        raise RuntimeError(f"{peer.name} {path}: {out}")
    requests = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    size, unit = re.search(r"Transfer/sec:\s+([\d.]+)(\w+)", out).groups()  # type: ignore[union-attr]
    return Rate(requests, float(size) * {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[unit])


def in_turn(rounds: int, measures: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each measure once per round, in turn, so that a slow minute of the machine meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of rounds that ran side by side."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that processes have used so far."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory that a process ever had."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def conditions(rounds: int = ROUNDS) -> str:
    """One line on where and when."""
    told = f"medians of {rounds} rounds in turn" if rounds > 1 else "one round"
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{day}, {os.cpu_count()} cores ({cpu}), Linux {platform.release()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}; {told}"
    )
