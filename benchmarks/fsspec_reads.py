"""CPU time of the caller per warm 64 KiB read of an open file: plain local file, headrace://, obstore from the gateway.

    python benchmarks/fsspec_reads.py --config headrace.toml --path bucket/key [--mode remote|embedded]

Reads the object once so that it is cached, copies it to a local file, then reads the same random places three ways, in turns.
Prints JSON: microseconds per read (median of the rounds) and the ratios.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import obstore
from obstore.store import S3Store

from headrace.fs import HeadraceFileSystem
from headrace.session import SessionOptions, find_key
from headrace.settings import load_settings

READ_BYTES = 64 * 1024


def cpu_us(read: Callable[[int], object], places: list[int]) -> float:
    """Microseconds of CPU of this whole process, all threads, per read."""
    before = time.process_time()
    for place in places:
        read(place)
    return (time.process_time() - before) / len(places) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config")
    parser.add_argument("--path", required=True)
    parser.add_argument("--mode", choices=("remote", "embedded"), default="remote")
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    settings = load_settings(options.config)
    key = find_key(SessionOptions(), settings.home, {})
    if key is None:
        raise SystemExit("no key: start the node once")
    endpoint = "http://" + settings.server.data_listen
    fs = HeadraceFileSystem(options.config, mode=options.mode)
    with tempfile.NamedTemporaryFile() as copy:
        fs.get_file(options.path, copy.name)
        size = Path(copy.name).stat().st_size
        bucket, _, name = options.path.partition("/")
        store = S3Store(
            bucket, endpoint=endpoint, access_key_id=key.key_id, secret_access_key=key.secret, region=settings.gateway.region,
            virtual_hosted_style_request=False, client_options={"allow_http": True},
        )  # fmt: skip
        ways: dict[str, Callable[[int], object]] = {}
        with open(copy.name, "rb") as local, fs.open(options.path) as opened:

            def plain(place: int) -> bytes:
                local.seek(place)
                return local.read(READ_BYTES)

            def headrace(place: int) -> bytes:
                opened.seek(place)
                return opened.read(READ_BYTES)

            def from_gateway(place: int) -> object:
                return obstore.get_range(store, name, start=place, length=READ_BYTES)

            ways = {"plain": plain, "headrace": headrace, "obstore": from_gateway}
            dice = random.Random(7)
            places = [dice.randrange(0, (size - READ_BYTES) // READ_BYTES + 1) * READ_BYTES for _ in range(options.reads)]
            wrong = [place for place in places[:200] if not plain(place) == headrace(place) == bytes(from_gateway(place))]  # type: ignore[call-overload]
            if wrong:
                raise SystemExit(f"different bytes at {wrong[:5]}")
            rounds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(options.rounds):
                for way, read in ways.items():
                    rounds[way].append(cpu_us(read, places if way != "obstore" else places[:500]))
            held = len(opened.reader._slices._order)
    found = {way: round(statistics.median(values), 2) for way, values in rounds.items()}
    ratios = {"headrace/plain": found["headrace"] / found["plain"], "obstore/headrace": found["obstore"] / found["headrace"]}
    print(
        json.dumps(
            {
                "object_bytes": size,
                "mode": options.mode,
                "slices_held": held,
                "cpu_us": found,
                **{k: round(v, 2) for k, v in ratios.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
