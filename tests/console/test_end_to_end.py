"""The commands as a user types them: real processes, a real node, a directory as the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.node import RunningNode, running_node
from support.servers import S3Server

pytestmark = pytest.mark.servers

NASTY = "odd \x1b[31mred.txt"
BIG = os.urandom(5_000_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    (place / "2026").mkdir()
    (place / "2026" / "big.bin").write_bytes(BIG)
    (place / "small.csv").write_text("a,b\n1,2\n")
    (place / NASTY).write_text("x")
    return place


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[RunningNode]:
    config = f'[[mount]]\npath = "/sales"\nstore = "file://{store}"\nfreshness = "1s"\n'
    with running_node(tmp_path_factory.mktemp("node"), config) as running:
        yield running


def test_reading_commands(node: RunningNode, store: Path, tmp_path: Path) -> None:
    listed = node.cli("ls", "/sales").stdout
    assert "/sales/2026/" in listed
    assert "odd \\x1b[31mred.txt" in listed
    assert "\x1b" not in listed
    keys = [json.loads(line)["key"] for line in node.cli("ls", "-r", "/sales", "--json").stdout.splitlines()]
    assert keys == ["/sales/2026/big.bin", f"/sales/{NASTY}", "/sales/small.csv"]
    assert json.loads(node.cli("stat", "/sales/2026/big.bin", "--json").stdout)["size"] == len(BIG)
    assert node.cli("cat", "/sales/small.csv").stdout == "a,b\n1,2\n"
    node.cli("cp", "-r", "/sales/2026", str(tmp_path / "out"))
    assert (tmp_path / "out" / "big.bin").read_bytes() == BIG


def test_what_is_not_there_is_said_in_one_line(node: RunningNode) -> None:
    for command in (["stat"], ["cat"]):
        done = node.cli(*command, "/sales/nothing", check=False)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "/sales/nothing" in done.stderr


def test_load_brings_objects_into_the_cache(node: RunningNode) -> None:
    done = json.loads(node.cli("load", "/sales/2026", "--json").stdout)
    assert (done["state"], done["progress"]["bytes_done"]) == ("done", len(BIG))
    before = json.loads(node.cli("status", "--json").stdout)["counters"]
    assert len(node.cli("cat", "/sales/small.csv", "/sales/small.csv").stdout) == 16
    after = json.loads(node.cli("status", "--json").stdout)["counters"]
    assert after["requests"] > before["requests"]


def test_mounts_come_and_go_on_the_running_node(node: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("live")
    node.cli("mount", "add", "/live", f"file://{tmp_path}")
    assert node.cli("cat", "/live/x.txt").stdout == "live"
    node.cli("mount", "set", "/live", "--freshness", "verify")
    (tmp_path / "x.txt").write_text("changed")
    assert node.cli("cat", "/live/x.txt").stdout == "changed"
    node.cli("mount", "rm", "/live")
    assert node.cli("cat", "/live/x.txt", check=False).returncode == 1


def test_a_union_of_a_bucket_and_a_directory(node: RunningNode, seaweedfs_server: S3Server, tmp_path: Path) -> None:
    server = seaweedfs_server
    server.make_bucket("union-of-two")
    server.put("union-of-two", "x/both.txt", b"from the bucket")
    server.put("union-of-two", "x/bucket.txt", b"alone")
    (tmp_path / "data").mkdir()
    for name in ("both.txt", "directory.txt"):
        (tmp_path / "data" / name).write_text("from the directory")
    (tmp_path / "key").write_text(f"{server.access_key}\n{server.secret_key}\n")
    (tmp_path / "wrong").write_text("nobody\nnothing\n")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "wrong").chmod(0o600)
    bucket = f"s3://union-of-two/x,endpoint={server.endpoint},credentials=file:{tmp_path}/"
    directory = f"file://{tmp_path}/data"

    done = node.cli("mount", "add", "/two", "--union", directory, "--union", bucket + "wrong", check=False)
    assert done.returncode == 1
    assert "union member 1 (s3://union-of-two/x)" in done.stderr
    assert "/two" not in node.cli("mount", "ls").stdout

    node.cli("mount", "add", "/two", "--union", bucket + "key", "--union", directory, "--freshness", "1s")
    assert f"s3://union-of-two/x + {directory}" in node.cli("mount", "ls").stdout
    assert "healthy" in next(line for line in node.cli("mount", "ls").stdout.splitlines() if "/two" in line)
    assert node.cli("cat", "/two/both.txt").stdout == "from the bucket"
    assert node.cli("cat", "/two/directory.txt", "/two/bucket.txt").stdout == "from the directoryalone"
    node.cli("mount", "set", "/two", "--union", directory, "--union", bucket + "key")
    assert node.cli("cat", "/two/both.txt").stdout == "from the directory"
    node.cli("mount", "set", "/two", "--store", directory)
    assert node.cli("cat", "/two/bucket.txt", check=False).returncode == 1
    node.cli("mount", "rm", "/two")


def test_a_mount_that_does_not_work_is_refused_with_the_reason(node: RunningNode, tmp_path: Path) -> None:
    done = node.cli("mount", "add", "/bad", f"file://{tmp_path}/nowhere", check=False)
    assert done.returncode in (1, 2)
    assert "nowhere" in done.stderr
    assert "/bad" not in node.cli("mount", "ls").stdout


def test_pin_free_top_and_doctor(node: RunningNode) -> None:
    node.cli("pin", "/sales/2026")
    assert node.cli("pin").stdout == "/sales/2026\n"
    node.cli("pin", "/sales/2026", "--off")
    node.cli("free", "-r", "/sales")
    assert len(node.cli("top", "--count", "2", "--interval", "0.1").stdout.splitlines()) == 2
    findings = {check["name"]: check["level"] for check in json.loads(node.cli("doctor", "--json").stdout)}
    assert findings["server"] == "ok"
    assert findings["mount /sales"] == "ok"


def test_a_second_node_on_the_same_home_is_refused(node: RunningNode) -> None:
    done = node.cli("up", check=False)
    assert done.returncode == 2
    assert "another node" in done.stderr


def test_the_log_holds_no_token_and_no_secret(node: RunningNode) -> None:
    files = [file for file in node.home.parent.rglob("*") if file.is_file() and file.suffix in (".log", "")]
    said = b"".join(file.read_bytes() for file in files if file.name not in ("credentials",))
    assert b"Headrace serves S3" in said
    assert b"Mounted (`mount ls`):      /sales\n" in said
    assert b"Mount something" not in said
    assert node.token.encode() not in said
    assert node.secret.encode() not in said


@pytest.mark.parametrize("secret", ["", "minioadmin", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"])
def test_a_node_with_a_secret_that_everybody_knows_does_not_start(tmp_path: Path, secret: str) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text(
        f'[server]\nhome = "{tmp_path}/home"\ndata_listen = "127.0.0.1:0"\ncontrol_listen = "127.0.0.1:0"\nprocesses = 1\n'
        '[[key]]\nid = "analyst"\nsecret = "env:ANALYST_SECRET"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "up", "--config", str(config)],
        env={**os.environ, "ANALYST_SECRET": secret},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "key analyst: the secret is" in done.stderr
    assert not secret or secret not in done.stderr


def test_top_ends_well_on_ctrl_c(node: RunningNode) -> None:
    command = [sys.executable, "-m", "headrace", "--config", str(node.config), "top", "--interval", "0.1", "--json"]
    with subprocess.Popen(command, env=node.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["data_url"] == node.data_url
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == b""
        assert process.wait(20) == 0


def _said(node: RunningNode, *arguments: str) -> str:
    done = node.cli(*arguments, check=False)
    assert done.returncode == 1, (arguments, done.stdout)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.removeprefix("headrace: ").rstrip()


def test_what_fails_is_said_in_paths_and_mounts(node: RunningNode, tmp_path: Path) -> None:
    missing = "there is no /sales/x: `headrace ls` shows what there is"
    assert {_said(node, *command) for command in (("stat", "/sales/x"), ("cat", "/sales/x"), ("ls", "/sales/x"))} == {missing}
    assert _said(node, "cp", "/sales/x", str(tmp_path)) == missing
    for command in (("stat", "/nope"), ("ls", "/nope"), ("cat", "/nope/x"), ("cp", "-r", "/nope", str(tmp_path))):
        assert _said(node, *command) == "nothing is mounted at /nope; mounts: /sales"
    for command in (("cat", "/sales/2026"), ("cp", "/sales/2026", str(tmp_path)), ("cat", "/sales")):
        assert "is a directory: name an object, or copy all below it with `headrace cp -r`" in _said(node, *command)
    (tmp_path / "local").write_text("x")
    assert 'takes no writes: set write = "through"' in _said(node, "cp", str(tmp_path / "local"), "headrace://sales/local")
    assert "nothing lies below /sales/small.csv" in node.cli("cp", "-r", "/sales/small.csv", str(tmp_path), check=False).stderr


def test_a_directory_is_described(node: RunningNode) -> None:
    for path in ("/", "/sales", "/sales/2026/", "sales/2026"):
        assert "directory: `headrace ls " in node.cli("stat", path).stdout
    assert json.loads(node.cli("stat", "/sales", "--json").stdout) == {"type": "prefix", "key": "/sales/"}


def test_a_refusal_by_a_rule_and_a_store_that_is_away_say_so(tmp_path: Path, store: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    config = (
        f'[[mount]]\npath = "/sales"\nstore = "file://{store}"\n[[mount]]\npath = "/away"\nstore = "file://{away}"\n'
        'freshness = "verify"\ntimeout = "1s"\n[[rule]]\npath = "/sales/small.csv"\neffect = "deny"\n'
    )
    with running_node(tmp_path / "node", config) as node:
        assert _said(node, "cat", "/sales/small.csv") == "your key may not read /sales/small.csv: a rule of the node refuses it"
        away.rmdir()
        said = _said(node, "cat", "/away/x")
        assert said.startswith("the store behind /away cannot be asked now (")
        assert str(away) in said
        listed = node.cli("mount", "ls").stdout
        assert str(away) in listed.partition("/away")[2]


def test_nothing_mounted_yet_says_what_to_do(tmp_path: Path) -> None:
    with running_node(tmp_path / "node", "", processes=1) as node:
        done = node.cli("ls")
        assert (done.stdout, "headrace mount add" in done.stderr) == ("", True)
        assert "nothing is mounted yet" in _said(node, "cat", "/sales/x")
        assert "nothing is mounted yet" in _said(node, "ls", "/sales")


def test_without_a_node_and_without_settings_the_next_step_is_named(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environ["HEADRACE_HOME"] = str(tmp_path)
    taken = "import sys; from headrace import session; session._answers = lambda _endpoint: False; "
    command = [sys.executable, "-c", taken + "from headrace.console.cli import main; main(sys.argv[1:])", "ls"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "headrace: no server runs here and no headrace.toml was found: start one with `headrace up`\n"
