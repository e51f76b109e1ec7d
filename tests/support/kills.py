"""A load of writes on keys whose whole history is kept, and the killing of the processes that take them.

Each key has one writer, so its history is a sequence: what is read later must be the last that was acknowledged, or
something that was tried behind it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.model.sigv4 import UNSIGNED_PAYLOAD, SigningIdentity, UnsignedRequest, quote_path, sign_headers
from support.node import RunningNode

_TIMEOUT_S = 20.0
_SETTLE_S = 30.0


@dataclass
class Register:
    """One key: what was tried in order (None: a removal), and from where on a reader may find it.

    `late`: what was tried and not acknowledged may take effect at any time afterwards, as at a store across a network, where
    the request of a killed process is still on its way.
    """

    path: str
    late: bool = False
    tried: list[bytes | None] = field(default_factory=lambda: [None])
    floor: int = 0
    acknowledged: int = 0
    open: set[int] = field(default_factory=set)
    """Tries that may still take effect."""

    def attempt(self, body: bytes | None) -> None:
        """Try something, of which nothing is known until `settled`."""
        self.tried.append(body)
        if self.late:
            self.open.add(len(self.tried) - 1)

    def settled(self) -> None:
        """The last try was acknowledged."""
        self.floor = len(self.tried) - 1
        self.open.discard(self.floor)
        self.acknowledged += 1

    def check(self, seen: bytes | None) -> None:
        """Once seen, nothing older may be seen again."""
        for index in range(len(self.tried) - 1, self.floor - 1, -1):
            if self.tried[index] == seen:
                self.floor = index
                return
        if any(self.tried[index] == seen for index in self.open):
            return
        older = [index for index, body in enumerate(self.tried) if body == seen]
        what = "nothing" if seen is None else f"{len(seen)} bytes {seen[:40]!r}"
        raise AssertionError(
            f"{self.path}: {what} (try {older or 'none'}), but try {self.floor} of {len(self.tried) - 1} was acknowledged"
        )


class Client:
    """One connection; signs as S3 wants it, without reading the body."""

    def __init__(self, node: RunningNode) -> None:
        self._netloc = node.data
        self._identity = SigningIdentity(node.key_id, node.secret, "us-east-1")
        self._connection = http.client.HTTPConnection(node.data, timeout=_TIMEOUT_S)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body. Raises `OSError` and `http.client.HTTPException` when no whole answer came."""
        raw = quote_path(path.encode())
        request = UnsignedRequest(method.encode(), raw, (), ((b"host", self._netloc.encode()),), UNSIGNED_PAYLOAD)
        headers = dict(sign_headers(request, self._identity, time.time()))
        try:
            self._connection.request(method, raw.decode(), body or None, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()


def _body(register: Register, rng: random.Random) -> bytes:
    """Bytes that no other try has; now and then more than a journal's record takes."""
    size = 200_000 if rng.random() < 0.03 else rng.randrange(0, 3000)
    stamp = f"{register.path} {len(register.tried):06d} ".encode()
    return (stamp * (1 + size // len(stamp)))[: max(size, len(stamp))]


def _write(node: RunningNode, registers: Sequence[Register], stop: threading.Event, seed: int) -> None:
    rng = random.Random(seed)
    client = Client(node)
    while not stop.is_set():
        register = rng.choice(registers)
        body = None if rng.random() < 0.15 else _body(register, rng)
        register.attempt(body)
        try:
            status, _ = client.ask("DELETE" if body is None else "PUT", register.path, body or b"")
        except (OSError, http.client.HTTPException):
            stop.wait(0.01)
            continue
        if status in (200, 204):
            register.settled()
        else:
            assert status >= 500, f"{register.path}: {status}"
    client.close()


def kill_under_load(node: RunningNode, registers: Sequence[Register], *, whole_node: bool, seed: int) -> int:
    """Write to all registers from several connections, `kill -9` while that goes on; how many processes were killed."""
    rng = random.Random(seed)
    stop = threading.Event()
    shares = [registers[first::6] for first in range(6)]
    writers = [
        threading.Thread(target=_write, args=(node, share, stop, seed * 31 + number))
        for number, share in enumerate(shares)
        if share
    ]
    for writer in writers:
        writer.start()
    stop.wait(rng.uniform(0.05, 0.25))
    workers = node.worker_pids()
    victims = [node.process.pid, *_children(node.process.pid)] if whole_node else rng.sample(workers, min(1, len(workers)))
    killed = 0
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    stop.wait(0.02 if whole_node else rng.uniform(0.0, 0.15))
    stop.set()
    for writer in writers:
        writer.join()
    if whole_node:
        node.process.wait(_TIMEOUT_S)
    return killed


def verify(node: RunningNode, registers: Sequence[Register]) -> None:
    """Read every key through the node."""
    client = Client(node)
    until_s = time.monotonic() + _SETTLE_S
    for register in registers:
        while True:
            try:
                status, body = client.ask("GET", register.path)
            except (OSError, http.client.HTTPException):
                status = 0
            if status in (200, 404):
                register.check(body if status == 200 else None)
                break
            assert status == 0 or status >= 500, f"{register.path}: {status}"
            assert time.monotonic() < until_s, f"{register.path}: {status} for {_SETTLE_S} s"
    client.close()


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
    return []
