"""Warm OPEN through the WebHDFS gateway beside the DataNode of a real HDFS, whose file it is, one core for each server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import peers
from load import ROUNDS, in_turn, ratio, wrk
from peers import Peer
from report import Row, emit

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.hdfs import FULL_SPEED, hdfs

SERVER_CPU, LOAD_CPU = 0, 1
KIB, MIB = 1 << 10, 1 << 20
CONNECTIONS = 8
CASES = (("OPEN 1 MiB", "offset=0", MIB, 3.0), ("OPEN 64 KiB of 1 MiB", "offset=524288&length=65536", 64 * KIB, None))


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        (work / "hdfs").mkdir()
        cluster = stack.enter_context(hdfs(work / "hdfs", FULL_SPEED))
        for child in (cluster.namenode, cluster.datanode):
            subprocess.run(["taskset", "-acp", str(SERVER_CPU), str(child.process.pid)], check=True, stdout=subprocess.DEVNULL)
        data = os.urandom(MIB)
        cluster.put("/bench/1m.bin", data)
        mount = (
            '[gateway.webhdfs]\ntrust_user_name_from = ["127.0.0.1"]\n\n'
            f'[[mount]]\npath = "/bench"\nstore = "webhdfs://{cluster.web}/bench"\nfreshness = "1h"\n'
        )
        node = peers.headrace(work, mount, processes=1, cpu=SERVER_CPU, env={"HADOOP_USER_NAME": "root"})
        ours = stack.enter_context(node)
        ours = Peer("Headrace", ours.url, ours.pids, signed=False)
        rows = []
        for title, query, size, wanted in CASES:
            places = {"ours": place_of(ours.url, query), "theirs": place_of(f"http://{cluster.web}", query)}
            for place in places.values():
                for _ in range(50):
                    with urllib.request.urlopen(place, timeout=30) as answer:
                        if len(answer.read()) != size:
                            raise RuntimeError(f"{place} answers with other bytes")
            rates = in_turn(ROUNDS, {name: lambda place=place: rate(place) for name, place in places.items()})
            found = ratio(rates["ours"], rates["theirs"])
            rows.append(Row(f"{title}, × DataNode of Hadoop 2.7.3", found, wanted, "at least", rates["ours"], rates["theirs"]))
        emit("webhdfs", "WebHDFS, warm", rows)


def place_of(endpoint: str, query: str) -> str:
    """Where the bytes are: what the first step answers."""
    url = f"{endpoint}/webhdfs/v1/bench/1m.bin?op=OPEN&user.name=root&{query}"

    class Stop(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        urllib.request.build_opener(Stop).open(url, timeout=30)
    except urllib.error.HTTPError as answer:
        with answer:
            if answer.code == 307:
                return str(answer.headers["location"])
            raise
    raise RuntimeError(f"{url} was not redirected")


def rate(place: str) -> float:
    parts = urlsplit(place)
    peer = Peer(parts.netloc, f"http://{parts.netloc}", (), signed=False)
    return wrk(peer, f"{parts.path}?{parts.query}", connections=CONNECTIONS, cpu=LOAD_CPU).requests


if __name__ == "__main__":
    main()
