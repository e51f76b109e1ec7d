"""Attack 37 with slowhttptest against a real node: slow clients are cut at their deadline, and others hardly notice."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.load import RawClient, Signer
from support.node import RunningNode, running_node
from support.processes import Child, require

pytestmark = [pytest.mark.servers, pytest.mark.slow]

DEADLINE_S = 3.0
SLOW_CLIENTS = 300
OPENED_S = 2.0
SMALL = b"0123456789abcdef" * 256
PACE_S = 0.005
NOISE_S = 0.002
"""A p99 below this is the machine's own unrest: twice as much says nothing about the server."""
KERNEL_BYTES = 2 << 20
"""What the kernel may hold for each slow client: unsent bytes are bounded here, what a client has not read by its own window."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("slow")
    (folder / "data").mkdir()
    (folder / "data/small").write_bytes(SMALL)
    (folder / "data/large").write_bytes(b"z" * 32_000_000)
    config = f"""
[gateway]
head_timeout_s = {DEADLINE_S}
floor_window_s = {DEADLINE_S}
idle_timeout_s = {DEADLINE_S}
sweep_s = 0.1
linger_s = 0.5

[[mount]]
path = "/data"
store = "file://{folder}/data"
anonymous = true
"""
    with running_node(folder / "node", config, processes=1) as running:
        yield running


def connections(port: int) -> int:
    """Connections that the server on `port` still has."""
    local, established = f":{port:04X}", "01"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(local) and row[3] == established for row in rows)


class Honest:
    """One client on one connection that reads a small warm object at a steady pace.

    What it waits for is told by the CPU time that the server's event loop spends between the question and the answer: on the
    question, and on whatever it does before it comes to it. Other processes on the machine make the wait longer, but not that.
    """

    def __init__(self, client: RawClient, worker_pid: int) -> None:
        self._client = client
        self._loop = Path(f"/proc/{worker_pid}/schedstat")
        self.waited: list[float] = []
        """Seconds that the reads took, on the wall."""

    async def ask(self) -> float:
        """Seconds of the server that one read took."""
        before = self._spent_s()
        answer = await self._client.get("/data/small")
        served_s = self._spent_s() - before
        assert answer.body == SMALL
        self.waited.append(answer.seconds)
        await asyncio.sleep(PACE_S)
        return served_s

    def _spent_s(self) -> float:
        return int(self._loop.read_text().split()[0]) / 1e9

    async def seconds(self, count: int) -> list[float]:
        return [await self.ask() for _ in range(count)]


def kernel_bytes() -> int:
    """What the kernel holds for all TCP connections now."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE")


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


ATTACKS = {
    "slow headers": ("-H", "-i", "1", "-x", "8"),
    "slow body": ("-B", "-t", "GET", "-i", "1", "-s", "8192", "-x", "4"),
    "slow read": ("-X", "-n", "1", "-w", "10", "-y", "20", "-z", "5"),
}


@pytest.mark.parametrize("options", ATTACKS.values(), ids=ATTACKS.keys())
async def test_37_slow_clients_are_cut_and_others_are_served_as_before(
    node: RunningNode, options: tuple[str, ...], tmp_path: Path
) -> None:
    port = int(node.data.rpartition(":")[2])
    program = require("slowhttptest")
    size = ("-c", str(SLOW_CLIENTS), "-r", str(int(SLOW_CLIENTS / OPENED_S)), "-l", "20", "-v", "1")
    async with RawClient(Signer(node.data, node.key_id, node.secret)) as client:
        honest = Honest(client, node.worker_pids()[0])
        alone = await honest.seconds(300)
        attack = Child([program, *options, *size, "-u", f"{node.data_url}/data/large"], tmp_path / "slowhttptest.log")
        try:
            started, most, beside, before, held = time.monotonic(), 0, [], kernel_bytes(), 0
            for number in itertools.count():
                beside.append(await honest.ask())
                if number % 10 == 0:
                    now = connections(port) - 1
                    most = max(most, now)
                    held = max(held, kernel_bytes() - before)
                    if now == 0 and time.monotonic() - started > OPENED_S:
                        break
                    assert time.monotonic() - started < 15, f"{now} slow clients are still connected"
        finally:
            attack.stop(grace_s=0)
        took = time.monotonic() - started
        alone += await honest.seconds(300)
    print(f"the kernel held {held >> 20} MiB")
    served = f"alone {p99(alone) * 1e3:.2f} ms, beside {p99(beside) * 1e3:.2f} ms of {len(beside)}"
    print(f"p99 of the server's time {served} (on the wall {p99(honest.waited) * 1e3:.2f} ms); {most} cut in {took:.1f} s")
    assert most > 0.8 * SLOW_CLIENTS, "the attack did not happen"
    # A reader's first window may still have moved, so it is cut with the second.
    assert took < OPENED_S + 2 * DEADLINE_S + 2.0
    assert held < SLOW_CLIENTS * KERNEL_BYTES
    assert len(beside) >= 100
    assert p99(beside) <= 2 * max(p99(alone), NOISE_S), served
