"""A mount that cannot be built answers for its path, by refusing: the mount above it never does in its place."""

from __future__ import annotations

import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from support.gateway import signed_request
from support.node import RunningNode, running_node

MARK = b"MARKED-" * 9000
ABOVE = b"of the mount above"


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def ask(node: RunningNode, method: str, path: str, body: bytes = b"") -> bytes:
    request = signed_request(node.data_url, method, path, body=body, key_id=node.key_id, secret=node.secret)
    host, _, port = node.data.partition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def unsigned(node: RunningNode, path: str) -> int:
    try:
        with urllib.request.urlopen(node.data_url + path, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.05)


def marked_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and b"MARKED-" in path.read_bytes()]


def without_locked_memory() -> tuple[str, ...]:
    """A beginning of a command under which no memory can be locked."""
    prlimit, setpriv = shutil.which("prlimit"), shutil.which("setpriv")
    if prlimit is None or (os.geteuid() == 0 and setpriv is None):
        pytest.skip("prlimit or setpriv is not installed")
    limited = (prlimit, "--memlock=65536:65536")
    if os.geteuid() != 0:
        return limited
    return (*limited, str(setpriv), "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock")


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    above, below = tmp_path / "above", tmp_path / "below"
    (above / "secret").mkdir(parents=True)
    below.mkdir()
    (above / "secret" / "a").write_bytes(ABOVE)
    (above / "b").write_bytes(ABOVE)
    (below / "a").write_bytes(MARK)
    return above, below


def nested(above: Path, below: str, more: str, *, over: str = "") -> str:
    return (
        f'[[mount]]\npath = "/sales"\nstore = "file://{above}"\nwrite = "through"\n{over}\n'
        f'[[mount]]\npath = "/sales/secret"\nstore = "{below}"\nwrite = "through"\n{more}\n'
    )


def test_the_mount_above_answers_for_nothing_of_it(tmp_path: Path, stores: tuple[Path, Path]) -> None:
    above, _ = stores
    more = 'endpoint = "http://127.0.0.1:1"\ncredentials = "file:/nowhere/keys"\n'
    config = nested(above, "s3://nowhere", more, over="anonymous = true")
    with running_node(tmp_path / "node", config, processes=1) as node:
        assert unsigned(node, "/sales/b") == 200
        assert unsigned(node, "/sales/secret/a") == 403
        assert status_of(ask(node, "GET", "/sales/secret/a")) == 503
        assert status_of(ask(node, "HEAD", "/sales/secret/a")) == 503
        assert status_of(ask(node, "GET", "/sales/?list-type=2&prefix=secret%2F")) == 503
        assert status_of(ask(node, "PUT", "/sales/secret/new", b"new")) == 503
        assert status_of(ask(node, "DELETE", "/sales/secret/a")) == 503
        assert status_of(ask(node, "POST", "/sales/secret/new?uploads")) == 503
        assert sorted(path.name for path in (above / "secret").iterdir()) == ["a"]
        assert status_of(ask(node, "GET", "/sales/b")) == 200
        assert "/nowhere/keys" in node.cli("status").stdout
        refused = node.cli("ls", "/sales/secret", check=False)
        assert refused.returncode != 0
        assert "/nowhere/keys" in refused.stderr
        assert "/nowhere/keys" in node.cli("doctor", check=False).stdout


def test_it_is_served_as_soon_as_it_can_be_built(tmp_path: Path, stores: tuple[Path, Path]) -> None:
    _, below = stores
    token = tmp_path / "keys"
    config = (
        f'[[mount]]\npath = "/other"\nstore = "file://{below}"\n\n'
        '[[mount]]\npath = "/late"\nstore = "s3://bucket"\nendpoint = "http://127.0.0.1:1"\ntimeout = "1s"\n'
        f'credentials = "file:{token}"\n'
    )
    with running_node(tmp_path / "node", config, processes=1) as node:
        assert str(token) in node.cli("mount", "ls").stdout + node.cli("status").stdout
        token.write_text("id\nsecret\n")
        token.chmod(0o600)
        until(lambda: str(token) not in node.cli("status").stdout)
        answer = ask(node, "GET", "/late/a")
        assert status_of(answer) == 503, "now it is the store that cannot be reached"
        assert str(token).encode() not in answer
        assert status_of(ask(node, "GET", "/other/a")) == 200


def test_memory_only_is_refused_where_memory_cannot_be_locked(tmp_path: Path, stores: tuple[Path, Path]) -> None:
    above, below = stores
    config = nested(above, f"file://{below}", 'residency = "memory"\n')
    with running_node(tmp_path / "node", config, processes=1, behind=without_locked_memory()) as node:
        answer = ask(node, "GET", "/sales/secret/a")
        assert status_of(answer) == 503
        assert b"memory" in answer
        assert status_of(ask(node, "PUT", "/sales/secret/new", MARK)) == 503
        assert status_of(ask(node, "GET", "/sales/b")) == 200
        assert "memory" in node.cli("doctor", check=False).stdout
        assert marked_files(node.home) == []
    assert [path.name for path in below.iterdir()] == ["a"]
    assert sorted(path.name for path in (above / "secret").iterdir()) == ["a"]


def test_what_became_memory_only_leaves_disks_also_where_it_is_refused(tmp_path: Path, stores: tuple[Path, Path]) -> None:
    _, below = stores
    plain = f'[[mount]]\npath = "/sales"\nstore = "file://{below}"\nfreshness = "1h"\n'
    with running_node(tmp_path / "node", plain, processes=1) as node:
        assert status_of(ask(node, "GET", "/sales/a")) == 200
        until(lambda: bool(marked_files(node.home)))
    assert marked_files(tmp_path / "node")
    narrowed = plain + 'residency = "memory"\n'
    with running_node(tmp_path / "node", narrowed, processes=1, behind=without_locked_memory()) as node:
        assert status_of(ask(node, "GET", "/sales/a")) == 503
        assert marked_files(tmp_path / "node") == []
