"""The product's own link shaper as a process, with its byte counters."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class ShapedLink:
    """`url` is where the store answers through the link."""

    url: str
    control: tuple[str, int]

    def bytes_down(self) -> int:
        """Bytes that came from the store so far."""
        with socket.create_connection(self.control, 5) as sock, sock.makefile("rwb") as file:
            file.write(b"stats\n")
            file.flush()
            return json.loads(file.readline())["down_bytes"]


@contextmanager
def shaped_link(target_url: str, *, rtt: str, rate: str) -> Iterator[ShapedLink]:
    command = [
        sys.executable, "-m", "headrace.testing.shaper", "--target", target_url.removeprefix("http://"), "--rtt", rtt,
        "--rate", rate, "--control", "127.0.0.1:0",
    ]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        if child.stdout is None:
            raise RuntimeError("no output")
        line = json.loads(child.stdout.readline())
        host, _, port = line["control"].rpartition(":")
        yield ShapedLink("http://" + line["listen"], (host, int(port)))
    finally:
        child.terminate()
        child.wait(10)
