"""A real node: start, change, crash and stop of its processes."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.node import RunningNode, running_node, start_node, stop_node

BODY = b"headrace " * 5000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    store = tmp_path / "store"
    store.mkdir()
    (store / "a.txt").write_bytes(BODY)
    config = f'[[mount]]\npath = "/data"\nstore = "file://{store}"\nanonymous = true\n'
    with running_node(tmp_path / "node", config, processes=2) as running:
        yield running


def fetch(node: RunningNode, path: str = "/data/a.txt") -> bytes:
    with urllib.request.urlopen(node.data_url + path, timeout=10) as answer:
        return answer.read()


def until(holds: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_node_serves_what_it_mounts_and_stops_with_status_0(node: RunningNode) -> None:
    assert fetch(node) == BODY
    assert len(node.worker_pids()) == 2
    assert stop_node(node) == 0
    assert not (node.home / "run" / "node.json").exists()


def test_a_killed_worker_comes_back_on_its_socket_and_no_connection_is_refused(node: RunningNode) -> None:
    before = node.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    # Nobody may be serving at this moment: the connection waits in the socket that the supervisor holds.
    assert fetch(node) == BODY
    until(lambda: len(node.worker_pids()) == 2 and not set(before) & set(node.worker_pids()))
    for _ in range(20):
        assert fetch(node) == BODY


def test_children_end_by_themselves_when_their_supervisor_is_killed(node: RunningNode) -> None:
    children = [int(pid) for pid in Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()]
    assert len(children) >= 3
    node.process.kill()
    node.process.wait()
    until(lambda: not any(alive(pid) for pid in children))
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(node.data.rpartition(":")[2])), 1)


def test_a_second_node_on_the_same_home_is_refused_and_says_who_has_it(node: RunningNode) -> None:
    done = node.cli("up", check=False)
    assert done.returncode != 0
    assert str(node.process.pid) in done.stderr
    assert fetch(node) == BODY


def test_a_mount_is_added_and_removed_while_serving(node: RunningNode, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "b.txt").write_bytes(b"more")
    node.cli("mount", "add", "/more", f"file://{more}", "--anonymous")
    for _ in range(8):
        assert fetch(node, "/more/b.txt") == b"more"
    node.cli("mount", "rm", "/more")
    for _ in range(8):
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(node, "/more/b.txt")
        assert refused.value.code in (403, 404)
        refused.value.close()


def test_what_was_mounted_by_command_is_there_after_a_crash(tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "b.txt").write_bytes(b"more")
    node = start_node(tmp_path / "node", "", processes=1)
    node.cli("mount", "add", "/more", f"file://{more}", "--anonymous")
    node.process.kill()
    node.process.wait()
    with running_node(tmp_path / "node", "", processes=1) as again:
        assert fetch(again, "/more/b.txt") == b"more"


def test_a_mount_that_does_not_answer_is_refused_in_words(node: RunningNode) -> None:
    done = node.cli(
        "mount", "add", "/gone", "s3://x", "--endpoint", "http://127.0.0.1:1", "--credentials", "anonymous", check=False
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert node.cli("mount", "ls").stdout.count("/gone") == 0


def test_running_requests_finish_while_the_node_drains(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    body = os.urandom(24 << 20)
    (store / "big").write_bytes(body)
    config = f'[[mount]]\npath = "/data"\nstore = "file://{store}"\nanonymous = true\n'
    node = start_node(tmp_path / "node", config, processes=1)
    with urllib.request.urlopen(node.data_url + "/data/big", timeout=30) as answer:
        got = answer.read(1 << 16)
        node.process.send_signal(signal.SIGTERM)
        node.process.send_signal(signal.SIGTERM)
        got += answer.read()
    assert got == body
    assert node.process.wait(40) == 0
