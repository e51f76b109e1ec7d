"""CPU time of a Python caller per warm 64 KiB read of an open file: headrace://, the plain local file, obstore from the gateway.

The object was read whole twice before: the second time its pages are compared with their checksums, which a process does once.
Until then single reads at random places go over HTTP, or are compared one by one.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import obstore
from obstore.store import S3Store

import peers
from headrace.fs import HeadraceFileSystem
from load import REGION, ROUNDS, ratio
from report import Row, emit

READS = int(os.environ.get("HEADRACE_BENCH_READS", "2000"))
SIZE = 64 << 20
READ_BYTES = 64 * 1024
BUCKET, KEY = "data", "object"
MODES = {"remote": "from the node of this host", "embedded": "without the node"}
LOCAL, FROM_GATEWAY = "local", "obstore"

Reads = dict[str, Callable[[int], object]]


def cpu_us(read: Callable[[int], object], places: list[int]) -> float:
    """Microseconds of CPU of this whole process, all threads, per read."""
    before = time.process_time()
    for place in places:
        read(place)
    return (time.process_time() - before) / len(places) * 1e6


def reader(file: object) -> Callable[[int], object]:
    def read(place: int) -> object:
        file.seek(place)  # type: ignore[attr-defined]
        return file.read(READ_BYTES)  # type: ignore[attr-defined]

    return read


def opened(stack: contextlib.ExitStack, work: Path, node: peers.Peer, local: Path) -> Reads:
    """The ways to read, each of a file that is open and cached by now."""
    store = S3Store(
        BUCKET, endpoint=node.url, access_key_id=node.key, secret_access_key=node.secret, region=REGION,
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip
    ways: Reads = {LOCAL: reader(stack.enter_context(local.open("rb")))}
    for mode in MODES:
        fs = HeadraceFileSystem(str(work / "node" / "headrace.toml"), key_id=node.key, secret=node.secret, mode=mode)  # type: ignore[arg-type]
        for _ in range(2):
            fs.cat_file(f"{BUCKET}/{KEY}")
        ways[mode] = reader(stack.enter_context(fs.open(f"{BUCKET}/{KEY}")))
    ways[FROM_GATEWAY] = lambda place: obstore.get_range(store, KEY, start=place, length=READ_BYTES)
    return ways


def measure(ways: Reads) -> dict[str, list[float]]:
    """Microseconds per read, round after round, the ways in turn; all of them must give the same bytes."""
    dice = random.Random(7)
    places = [dice.randrange(SIZE // READ_BYTES) * READ_BYTES for _ in range(READS)]
    for place in places[:200]:
        if len({bytes(read(place)) for read in ways.values()}) != 1:  # type: ignore[call-overload]
            raise RuntimeError(f"different bytes at {place}")
    # obstore takes so much longer that a quarter of the places tells as much.
    shares = {way: places[: READS // 4] if way == FROM_GATEWAY else places for way in ways}
    rounds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, read in ways.items():
            rounds[way].append(cpu_us(read, shares[way]))
    return rounds


def rows(found: dict[str, list[float]]) -> list[Row]:
    local, gateway = found[LOCAL], found[FROM_GATEWAY]
    made = []
    for mode, name in MODES.items():
        ours = found[mode]
        made.append(Row(f"obstore from the gateway ÷ headrace:// {name}, µs", ratio(gateway, ours), 4, "at least", ours, gateway))
        made.append(Row(f"headrace:// {name} ÷ the local file, µs", ratio(ours, local), 2.5, "at most", ours, local))
    return made


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        data = work / "data"
        data.mkdir()
        (data / KEY).write_bytes(random.Random(3).randbytes(SIZE))
        mount = f'[[mount]]\npath = "/{BUCKET}"\nstore = "file://{data}"\nfreshness = "1h"\n'
        node = stack.enter_context(peers.headrace(work, mount))
        found = measure(opened(stack, work, node, data / KEY))
    emit(
        "fsspec_reads",
        "CPU of a Python caller per warm 64 KiB read of an open file, its object read whole twice before",
        rows(found),
    )


if __name__ == "__main__":
    main()
