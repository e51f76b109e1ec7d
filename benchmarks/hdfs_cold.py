"""The first read of a large file of a real HDFS through Headrace, beside a native client that reads it from the cluster itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hdfs_native import Client as NativeClient

import peers
from clients import get
from load import ROUNDS, in_turn, ratio
from report import Row, emit

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.hdfs import FULL_SPEED, USER, HdfsServer, hdfs

MIB = 1 << 20
SIZE = 256 * MIB
WANTED = 0.9


def through(work: Path, store: str, number: int) -> float:
    """MB/s of one GET from a node that has seen nothing yet."""
    mount = f'[[mount]]\npath = "/bench"\nstore = "{store}"\nfreshness = "1h"\n'
    with peers.headrace(work, mount, name=f"node{number}", env={"HADOOP_USER_NAME": USER}) as node:
        return speed(lambda: asyncio.run(get(node, "/bench/256m.bin")))


def direct(cluster: HdfsServer) -> float:
    """MB/s of the library's own stream, with no HTTP behind it."""
    reader = NativeClient(f"hdfs://{cluster.rpc}").read("/bench/256m.bin")
    return speed(lambda: sum(map(len, reader.read_range_stream(0, SIZE))))


def speed(read: Callable[[], int]) -> float:
    """MB/s of a read that returns how many bytes it got."""
    began = time.monotonic()
    if read() != SIZE:
        raise RuntimeError("short read")
    return SIZE / 1e6 / (time.monotonic() - began)


@contextmanager
def cluster_with_file(work: Path) -> Iterator[HdfsServer]:
    """A NameNode and a DataNode that have read the file once."""
    with hdfs(work, FULL_SPEED) as cluster:
        cluster.put("/bench/256m.bin", os.urandom(SIZE))
        direct(cluster)
        yield cluster


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        (work / "hdfs").mkdir()
        os.environ["HADOOP_USER_NAME"] = USER
        cluster = stack.enter_context(cluster_with_file(work / "hdfs"))
        number = itertools.count()
        rates = in_turn(
            ROUNDS,
            {
                "webhdfs": lambda: through(work, f"webhdfs://{cluster.web}/bench", next(number)),
                "direct": lambda: direct(cluster),
                "hdfs": lambda: through(work, f"hdfs://{cluster.rpc}/bench", next(number)),
            },
        )
        rows = [
            Row(
                f"first read of 256 MiB, `{scheme}://` mount, × `hdfs-native` direct (MB/s)",
                ratio(rates[scheme], rates["direct"]),
                WANTED,
                "at least",
                rates[scheme],
                rates["direct"],
            )
            for scheme in ("webhdfs", "hdfs")
        ]
        emit("hdfs_cold", "HDFS as a store, cold", rows)


if __name__ == "__main__":
    main()
