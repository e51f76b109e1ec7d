"""`headrace cp` into the namespace and within it, and `headrace rm`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.console.copy_ends import ends_of
from headrace.gateways.writing import PART_BYTES
from headrace.model.errors import SettingsError
from support.node import running_node
from support.writable import config_of, embedded_config

LARGE = os.urandom(2 * PART_BYTES + 17)


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(embedded_config(tmp_path))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    (root / "large.bin").write_bytes(LARGE)
    (root / "sub" / "small.csv").write_bytes(b"a,b\n")
    (root / "empty").write_bytes(b"")
    return root


def headrace(*args: str, check: int | None = 0) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-m", "headrace", *args], capture_output=True, text=True, check=False, timeout=60)
    assert check is None or done.returncode == check, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("source", "target", "ends"),
    [
        ("/b/k", "out", ("/b/k", "out", True, False)),
        ("b/k", "/tmp/out", ("/b/k", "/tmp/out", True, False)),
        ("headrace://b/k", "./out", ("/b/k", "./out", True, False)),
        ("out", "headrace://b/k", ("out", "/b/k", False, True)),
        ("/tmp/out", "headrace://b/", ("/tmp/out", "/b/", False, True)),
        ("./out", "/b/k", ("./out", "/b/k", False, True)),
        (".", "b/k", (".", "/b/k", False, True)),
        ("headrace://b/k", "headrace://c/k", ("/b/k", "/c/k", True, True)),
    ],
)
def test_which_end_lies_in_the_namespace(source: str, target: str, ends: tuple[str, str, bool, bool]) -> None:
    found = ends_of(source, target)
    assert (found.source, found.target, found.out_of, found.into) == ends


def test_two_local_ends_are_refused_with_the_way_to_write_them() -> None:
    with pytest.raises(SettingsError, match="headrace://bucket/key"):
        ends_of("./a", "../b")


def test_a_tree_goes_in_once_and_then_only_what_changed(config: str, files: Path, tmp_path: Path) -> None:
    said, _ = headrace("cp", "-r", str(files), "headrace://b/in", "--config", config)
    assert said == "3 copied (16.0 MiB), 0 were there already\n"
    store = tmp_path / "store" / "in"
    assert (store / "large.bin").read_bytes() == LARGE
    assert (store / "sub" / "small.csv").read_bytes() == b"a,b\n"
    (files / "sub" / "small.csv").write_bytes(b"b,a\n")
    said, _ = headrace("cp", "-r", str(files), "headrace://b/in", "--config", config, "--json")
    rows = {Path(row["key"]).name: row for row in map(json.loads, said.splitlines())}
    assert {name: row["skipped"] for name, row in rows.items()} == {"large.bin": True, "empty": True, "small.csv": False}
    assert rows["small.csv"]["verified"] == "etag"
    assert not any((tmp_path / "home" / "copies").iterdir())


def test_one_file_into_a_directory_keeps_its_name_and_type(config: str, files: Path) -> None:
    for target in ("headrace://b", "headrace://b/dir/"):
        headrace("cp", str(files / "sub" / "small.csv"), target, "--config", config)
    headrace("cp", str(files / "empty"), "headrace://b/dir", "--config", config)
    for path in ("/b/small.csv", "/b/dir/small.csv", "/b/dir/empty"):
        headrace("stat", path, "--config", config)
    assert json.loads(headrace("stat", "/b/small.csv", "--config", config, "--json")[0])["content_type"] == "text/csv"


def test_objects_are_copied_within_the_namespace(config: str, files: Path, tmp_path: Path) -> None:
    headrace("cp", "-r", str(files), "headrace://b/in", "--config", config)
    said, _ = headrace("cp", "-r", "headrace://b/in", "headrace://b/again", "--config", config)
    assert said.startswith("3 copied")
    assert (tmp_path / "store" / "again" / "large.bin").read_bytes() == LARGE
    headrace("cp", "headrace://b/in/empty", "headrace://b/one", "--config", config)
    assert (tmp_path / "store" / "one").read_bytes() == b""


def test_what_cannot_be_copied_is_named_and_the_rest_is_copied(config: str, files: Path, tmp_path: Path) -> None:
    os.mkfifo(files / "pipe")
    (files / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")
    said, warned = headrace("cp", "-r", str(files), "headrace://b/in", "--config", config, check=1)
    assert said.startswith("3 copied") and "2 failed" in said
    assert "no regular file" in warned and "not UTF-8" in warned
    for source in (str(tmp_path / "missing"), str(files)):
        _, warned = headrace("cp", source, "headrace://b/x", "--config", config, check=1)
        assert source in warned


def test_a_mount_that_takes_no_writes_says_so(tmp_path: Path, files: Path) -> None:
    config = str(embedded_config(tmp_path, "none"))
    for arguments in (("cp", str(files / "empty"), "headrace://b/x"), ("rm", "/b/x")):
        (tmp_path / "store" / "x").write_bytes(b"")
        _, warned = headrace(*arguments, "--config", config, check=1)
        assert 'set write = "through"' in warned


def test_rm_removes_what_it_showed_and_nothing_beside(config: str, files: Path, tmp_path: Path) -> None:
    headrace("cp", "-r", str(files), "headrace://b/in", "--config", config)
    headrace("cp", str(files / "empty"), "headrace://b/in-other", "--config", config)
    said, _ = headrace("rm", "-r", "--dry-run", "/b/in", "--config", config)
    # Several are looked at at once, so they are told in any order.
    *shown, sum_of_it = said.splitlines()
    assert sorted(shown) == ["/b/in/empty", "/b/in/large.bin", "/b/in/sub/small.csv"]
    assert sum_of_it == "3 would be removed"
    assert (tmp_path / "store" / "in" / "empty").exists()
    _, warned = headrace("rm", "/b/in", "--config", config, check=1)
    assert "is a directory" in warned
    rows = [json.loads(line) for line in headrace("rm", "-r", "headrace://b/in", "--config", config, "--json")[0].splitlines()]
    assert sorted(row["key"] for row in rows if row["removed"]) == ["/b/in/empty", "/b/in/large.bin", "/b/in/sub/small.csv"]
    assert headrace("ls", "-r", "/b", "--config", config)[0].split()[-1] == "/b/in-other"
    _, warned = headrace("rm", "-r", "/b/in", "--config", config, check=1)
    assert "/b/in" in warned
    headrace("rm", "-r", "/", "--config", config, check=2)
    assert headrace("rm", "/b/in-other", "--config", config)[0] == "1 removed\n"


def bytes_read_by(pid: int) -> int:
    """Of all files, the modules that it imported included."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def uploads_in(home: Path) -> int:
    return len(list((home / "copies").glob("*.json"))) if (home / "copies").exists() else 0


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_broken_off_cp_leaves_nothing_half_there_and_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    source = tmp_path / "large"
    body = os.urandom(1 << 20) * 400
    source.write_bytes(body)
    with running_node(tmp_path / "node", config_of(tmp_path / "store"), processes=1) as node:
        command = [sys.executable, "-m", "headrace", "--config", str(node.config), "cp", str(source), "headrace://b/large"]
        for _ in range(3):
            copying = subprocess.Popen(command, env=node.environ)
            deadline = time.monotonic() + 30
            while bytes_read_by(copying.pid) < 10 * PART_BYTES:
                assert time.monotonic() < deadline and copying.poll() is None
                time.sleep(0.01)
            copying.send_signal(how)
            assert copying.wait(15) == (-signal.SIGKILL if how == signal.SIGKILL else 1)
            assert not (tmp_path / "store" / "large").exists()
            assert uploads_in(node.home) == 1
        node.cli("cp", str(source), "headrace://b/large")
        assert (tmp_path / "store" / "large").read_bytes() == body
        assert uploads_in(node.home) == 0
        assert not list((tmp_path / "store").rglob("*part*")), "no upload was left behind"
        again = json.loads(node.cli("cp", str(source), "headrace://b/large", "--json").stdout)
        assert again["skipped"]


@pytest.mark.parametrize("answer", ["n", "y"])
def test_rm_asks_on_a_terminal(config: str, files: Path, tmp_path: Path, answer: str) -> None:
    headrace("cp", str(files / "empty"), "headrace://b/k", "--config", config)
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "headrace", "rm", "/b/k", "--config", config]
    removing = subprocess.Popen(command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    asked = b""
    while b"Remove /b/k?" not in asked:
        asked += os.read(ours, 1024)
    os.write(ours, answer.encode() + b"\n")
    removing.communicate(timeout=30)
    os.close(ours)
    assert removing.returncode == (0 if answer == "y" else 1)
    assert (tmp_path / "store" / "k").exists() == (answer == "n")
