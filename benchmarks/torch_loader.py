"""PyTorch's loader over 100 KB samples, warm: through Headrace, from local files, and by s3torchconnector from the store."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.store import S3Store

import peers
from load import ratio
from peers import Peer
from report import Row, emit

COUNT = int(os.environ.get("HEADRACE_BENCH_SAMPLES", "10000"))
ROUNDS = int(os.environ.get("HEADRACE_BENCH_ROUNDS", "3"))
SAMPLE_BYTES = 100_000
WORKERS = (2, 0)
WAYS = {"stream": "a stream, from the node", "embedded": "a stream, without the node", "dataset": "by number, from the node"}
PYTHON = Path(__file__).parent.parent / ".servers" / "engines" / "torch" / "bin" / "python"


def make_samples(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(COUNT):
        (folder / f"{number:06d}.bin").write_bytes(os.urandom(SAMPLE_BYTES))


def upload(origin: Peer, folder: Path) -> None:
    """With several connections: one at a time would take longer than the measurement."""
    (folder.parent / "none").mkdir()
    peers.upload(origin, "set", folder.parent / "none")
    store = S3Store(
        "set", endpoint=origin.url, access_key_id=origin.key, secret_access_key=origin.secret, region="us-east-1",
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: obstore.put(store, path.name, path.read_bytes()), sorted(folder.iterdir())))


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
        upload(origin, folder)
        mount = f'[[mount]]\npath = "/set"\nstore = "s3://set"\nendpoint = "{origin.url}"\ncredentials = "env:ORIGIN"\nfreshness = "1h"\n'
        stack.enter_context(peers.headrace(work, mount, processes=1))
        config = work / "node" / "headrace.toml"
        asked = {
            "config": str(config), "folder": str(folder), "workers": WORKERS, "rounds": ROUNDS, "s3": origin.url, "s3_samples": 1000,
        }  # fmt: skip
        environ = os.environ | {
            "ORIGIN_ACCESS_KEY_ID": origin.key, "ORIGIN_SECRET_ACCESS_KEY": origin.secret,
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
