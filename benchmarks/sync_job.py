"""A sync job between two S3 stores beside `rclone sync`: many small objects and some large ones, verified."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peers
from load import ratio
from peers import Peer
from report import Row, emit

KIB, MIB = 1 << 10, 1 << 20
SMALL = int(os.environ.get("HEADRACE_BENCH_SYNC_SMALL", "10000"))
LARGE = int(os.environ.get("HEADRACE_BENCH_SYNC_LARGE", "8"))
LARGE_BYTES = int(os.environ.get("HEADRACE_BENCH_SYNC_LARGE_MIB", "256")) * MIB
ROUNDS = int(os.environ.get("HEADRACE_BENCH_SYNC_ROUNDS", "1"))
TRANSFERS = 16
BUCKET = "there"


def fill(folder: Path) -> None:
    """What is synced, in a directory from which it is uploaded."""
    (folder / "small").mkdir(parents=True)
    (folder / "large").mkdir()
    for number in range(SMALL):
        (folder / "small" / f"{number:05}").write_bytes(os.urandom(64 * KIB))
    for number in range(LARGE):
        with (folder / "large" / f"{number}").open("wb") as file:
            for _ in range(LARGE_BYTES // MIB):
                file.write(os.urandom(MIB))


def rclone_config(work: Path, remotes: dict[str, Peer]) -> Path:
    config = work / "rclone-sync.conf"
    config.write_text(
        "".join(
            f"[{name}]\ntype = s3\nprovider = SeaweedFS\nendpoint = {peer.url}\naccess_key_id = {peer.key}\n"
            f"secret_access_key = {peer.secret}\nforce_path_style = true\nregion = us-east-1\n\n"
            for name, peer in remotes.items()
        )
    )
    return config


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes, begun when the disk has what was written before."""
    os.sync()
    began = time.monotonic()
    work()
    return time.monotonic() - began


def rclone(config: Path, *arguments: str) -> float:
    """Seconds that a command of rclone takes."""
    command = [str(peers.BIN / "rclone"), "--config", str(config), "-q", *arguments]
    return timed(lambda: subprocess.run(command, check=True))


def headrace(node: Path, *arguments: str) -> str:
    command = [str(peers.BIN / "python"), "-m", "headrace", "--config", str(node / "headrace.toml"), *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "BENCH_SECRET": peers.SECRET}
    ).stdout


def run_of(node: Path, name: str) -> float:
    """Seconds of a run as the node has them: the Python that tells it to begin starts for longer than a small run takes."""
    timed(lambda: headrace(node, "sync", "run", name))
    state = json.loads(headrace(node, "sync", "show", name, "--json"))["state"]
    return state["ended_s"] - state["started_s"]


def mounts(origin: Peer, target: Peer, buckets: list[str]) -> str:
    text = ""
    for path, peer, bucket in [("/from", origin, BUCKET), *((f"/{name}", target, name) for name in buckets)]:
        text += f'[[mount]]\npath = "{path}"\nstore = "s3://{bucket}"\nendpoint = "{peer.url}"\ncredentials = "env:ORIGIN"\nwrite = "through"\n\n'
    return text


def total_bytes() -> int:
    return SMALL * 64 * KIB + LARGE * LARGE_BYTES


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=os.environ.get("HEADRACE_BENCH_DIR")))
        )
        servers = {}
        for name in ("a", "b"):
            (work / name).mkdir()
            servers[name] = stack.enter_context(peers.seaweed(work / name))
        config = rclone_config(work, servers)
        fill(work / "data")
        rclone(config, "copy", "--transfers", "16", str(work / "data"), f"a:{BUCKET}")
        shutil.rmtree(work / "data")
        ours = [f"ours{number}" for number in range(ROUNDS)]
        for bucket in ours:
            rclone(config, "mkdir", f"b:{bucket}")
        stack.enter_context(peers.headrace(work, mounts(servers["a"], servers["b"], ours), processes=2))
        seconds: dict[str, list[float]] = {"ours": [], "rclone": [], "rclone, as many transfers": []}
        for number, bucket in enumerate(ours):
            headrace(work / "node", "sync", "add", "/from", f"/{bucket}", "--name", bucket, "--transfers", str(TRANSFERS))
            as_many = ("--transfers", str(TRANSFERS), "--checkers", str(TRANSFERS))
            seconds["rclone"].append(rclone(config, "sync", f"a:{BUCKET}", f"b:theirs{number}"))
            seconds["ours"].append(run_of(work / "node", bucket))
            seconds["rclone, as many transfers"].append(rclone(config, "sync", *as_many, f"a:{BUCKET}", f"b:theirs{number}-many"))
            rclone(config, "check", "--checkers", "16", f"a:{BUCKET}", f"b:{bucket}")
        for server in servers.values():
            for pid in server.pids:
                os.kill(pid, signal.SIGKILL)  # ending politely takes it long, and its data is thrown away
        rates = {name: [total_bytes() / MIB / each for each in times] for name, times in seconds.items()}
        what = f"{SMALL} × 64 KiB + {LARGE} × {LARGE_BYTES // MIB} MiB, MiB/s"
        emit(
            "sync_job",
            "A sync job between two S3 stores",
            [
                Row(
                    f"{what}, × `rclone sync`",
                    ratio(rates["ours"], rates["rclone"]),
                    1,
                    "at least",
                    rates["ours"],
                    rates["rclone"],
                ),
                Row(
                    f"{what}, × `rclone sync --transfers {TRANSFERS}`",
                    ratio(rates["ours"], rates["rclone, as many transfers"]),
                    1,
                    "at least",
                    rates["ours"],
                    rates["rclone, as many transfers"],
                ),
            ],
            rounds=ROUNDS,
        )


if __name__ == "__main__":
    main()
