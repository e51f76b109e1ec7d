"""PyTorch's loader over 100 KB samples, warm: through Headrace, from local files, and by s3torchconnector from the store."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import peers
from load import ratio
from report import Row, emit

COUNT = int(os.environ.get("HEADRACE_BENCH_SAMPLES", "10000"))
ROUNDS = int(os.environ.get("HEADRACE_BENCH_ROUNDS", "3"))
SAMPLE_BYTES = 100_000
S3_COUNT = 1000
WORKERS = (2, 0)
WAYS = {"stream": "a stream, from the node", "embedded": "a stream, without the node", "dataset": "by number, from the node"}
PYTHON = Path(__file__).parent.parent / ".servers" / "engines" / "torch" / "bin" / "python"


def make_samples(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(COUNT):
        (folder / f"{number:06d}.bin").write_bytes(os.urandom(SAMPLE_BYTES))


def some_of(folder: Path) -> Path:
    """As many of the samples as s3torchconnector reads in an epoch, in a folder of their own."""
    part = folder.parent / "part"
    part.mkdir()
    for path in sorted(folder.iterdir())[:S3_COUNT]:
        (part / path.name).hardlink_to(path)
    return part


def rows(found: dict[str, dict[str, list[float]]]) -> list[Row]:
    """Medians of ratios within rounds, for each number of workers."""
    made = []
    for workers, rates in found.items():
        for way, name in WAYS.items():
            for other, wanted in (("local", 0.8), ("s3torchconnector", 3.0)):
                what = f"{name}, {workers} workers, × {'local files' if other == 'local' else 's3torchconnector from the store'}"
                bar = wanted if way == "stream" else None
                made.append(Row(what, ratio(rates[way], rates[other]), bar, "at least", rates[way], rates[other]))
    return made


def main() -> None:
    if not PYTHON.exists():
        raise SystemExit("PyTorch is not set up: scripts/ensure-engines.sh torch")
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        folder = work / "samples"
        make_samples(folder)
        origin = stack.enter_context(peers.seaweed(work))
        peers.upload(origin, "set", some_of(folder))
        # Where the cache was filled from makes no difference to warm reads; from a directory it takes least time.
        mount = f'[[mount]]\npath = "/set"\nstore = "file://{folder}"\nfreshness = "1h"\n'
        stack.enter_context(peers.headrace(work, mount, processes=1))
        config = work / "node" / "headrace.toml"
        asked = {
            "config": str(config), "folder": str(folder), "workers": WORKERS, "rounds": ROUNDS, "s3": origin.url,
        }  # fmt: skip
        environ = os.environ | {
            "HEADRACE_ACCESS_KEY_ID": origin.key, "HEADRACE_SECRET_ACCESS_KEY": origin.secret,
            "AWS_ACCESS_KEY_ID": origin.key, "AWS_SECRET_ACCESS_KEY": origin.secret,
        }  # fmt: skip
        reader = str(Path(__file__).with_name("torch_reader.py"))
        done = subprocess.run(
            [str(PYTHON), reader], input=json.dumps(asked), env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = json.loads(done.stdout)
    for workers, rates in found.items():
        print(workers, {way: round(statistics.median(values)) for way, values in rates.items()})
    emit("torch_loader", f"PyTorch loader, {COUNT:,} samples of 100 KB, warm", rows(found), rounds=ROUNDS)


if __name__ == "__main__":
    main()
