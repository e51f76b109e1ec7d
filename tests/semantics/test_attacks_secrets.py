"""Canaries for every secret that a node is told, two hundred failures, and then a search through everything it wrote or said."""

from __future__ import annotations

import json
import secrets
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from support.attacks import Caller, control, owner, send, unsigned
from support.gateway import raw_request, signed_request
from support.node import RunningNode, start_node, stop_node

pytestmark = [pytest.mark.servers, pytest.mark.slow]

AWAY = 'store = "s3://bucket"\nendpoint = "http://127.0.0.1:1"\ntimeout = "500ms"\n'
PRIVATE = {"credentials", "admin.token", "ledger.key", "secret.key"}
"""Files of the home whose whole content is a secret; they are checked for their mode instead."""


@dataclass
class Canaries:
    """Names of secrets, and the random texts that stand for them."""

    texts: dict[str, str] = field(default_factory=dict)

    def new(self, name: str) -> str:
        self.texts[name] = f"CANARY{secrets.token_hex(12)}"
        return self.texts[name]

    def found_in(self, data: bytes) -> list[str]:
        return [name for name, text in self.texts.items() if text.encode() in data or quote(text).encode() in data]


def control_bodies(node: RunningNode, say: Callable[[str], str]) -> Iterator[tuple[str, str, object]]:
    """Changes that fail, with secrets where people put them by mistake."""
    stores = (
        f"s3://AK:{say('url password')}@bucket/x",
        f"s3://bucket/x?X-Amz-Signature={say('url query')}",
        f"sftp://u:{say('sftp')}@h/x",
        f"gs:///x?sig={say('gs query')}",
        f"az://{say('az')}@c/x?y",
        f"file://u:{say('file url')}@host/x",
        f"s3://b#{say('fragment')}",
    )
    for number, store in enumerate(stores):
        yield "POST", "/api/v1/mounts", {"path": f"/bad{number}", "store": store, "timeout": "1s"}
    for endpoint in (
        f"http://u:{say('endpoint')}@127.0.0.1:1",
        f"http://127.0.0.1:1/?sig={say('endpoint query')}",
        f"u:{say('no scheme')}@h",
    ):
        yield "POST", "/api/v1/mounts", {"path": "/bad", "store": "s3://b", "endpoint": endpoint, "timeout": "1s"}
    yield "POST", "/api/v1/mounts", {"path": "/bad", "store": "s3://b", "credentials": f"AK:{say('credentials')}"}
    yield "POST", "/api/v1/mounts", {"path": "/bad", "store": "s3://b", "secret_access_key": say("unknown option")}
    for reference in ("env:CANARY", f"file:{node.config.parent}/canary.ini", "env:HALF", f"file:{node.config.parent}/broken.ini"):
        for endpoint in (
            "http://127.0.0.1:1",
            "http://169.254.169.254",
            "http://no-such-host.invalid",
            f"http://{node.control}",
            f"http://{node.data}",
        ):
            for scheme in ("s3", "az"):
                yield (
                    "POST",
                    "/api/v1/mounts",
                    {
                        "path": "/bad",
                        "store": f"{scheme}://bucket",
                        "endpoint": endpoint,
                        "credentials": reference,
                        "timeout": "500ms",
                    },
                )
    for method, path in (
        ("DELETE", "/mounts"),
        ("POST", "/load"),
        ("POST", "/free"),
        ("POST", "/pin"),
        ("PUT", "/mounts"),
        ("POST", "/jobs/x/cancel"),
    ):
        yield method, f"/api/v1{path}", {"path": "no-slash", "token": say(f"{method} {path}")}


def drive_control(node: RunningNode, canaries: Canaries) -> tuple[int, bytes]:
    failures, said = 0, b""
    for method, path, body in control_bodies(node, canaries.new):
        status, answer = control(node, method, path, body)
        assert status >= 400, f"{method} {path} {body}: {answer!r}"
        failures, said = failures + 1, said + answer
    for headers in (
        {"authorization": f"Bearer {canaries.new('bearer')}"},
        {"cookie": f"headrace_session={canaries.new('cookie')}"},
        {"host": f"{canaries.new('host')}.example"},
        {"authorization": f"Basic {canaries.new('basic')}"},
    ):
        for path in ("/", "/metrics", f"/?token={canaries.new('query token')}", "/api/v1/mounts"):
            status, answer = control(node, "GET", path, token="", headers=headers)
            assert status in (401, 403)
            failures, said = failures + 1, said + answer
    return failures, said


def drive_data(node: RunningNode, canaries: Canaries) -> tuple[int, bytes]:
    me = owner(node)
    failures, said = 0, b""
    attempts: list[bytes] = []
    for path in (
        "/data/none",
        "/gone/x",
        "/data/x/../y",
        "/nobucket/x",
        "/data?list-type=3",
        "/data/x?acl",
        "/data/x?uploads",
        "/data/%zz",
        "/data/%00",
        "/gone?list-type=2",
    ):
        for method in ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"):
            headers = {
                "x-amz-security-token": canaries.new("session token"),
                "x-amz-meta-x": canaries.new("metadata"),
                "cookie": canaries.new("c"),
            }
            attempts.append(signed_request(node.data_url, method, path, headers, key_id=me.key_id, secret=me.secret))
            attempts.append(
                raw_request(method, path, node.data, {"authorization": f"AWS4-HMAC-SHA256 {canaries.new('authorization')}"})
            )
    for path in ("/data/x", "/data/none", "/nobucket/x"):
        for expires in (1, 600):
            whole = signed_request(
                node.data_url, "GET", path, key_id=me.key_id, secret="wrong-" + canaries.new("client secret"), presign=expires
            )
            signature = whole.partition(b"X-Amz-Signature=")[2].partition(b" ")[0].decode()
            canaries.texts[f"presigned signature {path} {expires}"] = signature
            attempts.append(whole)
            attempts.append(
                raw_request(
                    "GET", f"{path}?X-Amz-Signature={canaries.new('presigned')}&X-Amz-Algorithm=AWS4-HMAC-SHA256", node.data, {}
                )
            )
            attempts.append(
                raw_request("GET", f"{path}?AWSAccessKeyId=x&Signature={canaries.new('v2')}&Expires=1", node.data, {})
            )
    for head in (
        f"GET /data/x?sig={canaries.new('framing')} HTTP/9.9\r\n\r\n",
        f"GET /data HTTP/1.1\r\nbad {canaries.new('bad header')}\r\n\r\n",
    ):
        attempts.append(head.encode())
    for attempt in attempts:
        for answer in send(node, attempt, heads=attempt.startswith(b"HEAD")):
            assert answer.status >= 400, f"{attempt!r}: {answer}"
            failures, said = failures + 1, said + repr(sorted(answer.headers.items())).encode() + answer.body
    return failures, said


def drive_handoff(node: RunningNode, canaries: Canaries) -> None:
    for text in (
        canaries.new("handoff"),
        f"GET /data/x HTTP/1.1\r\nauthorization: {canaries.new('handoff head')}\r\nhost: a\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(node.home / "run" / "handoff.sock"))
            sock.sendall(len(text).to_bytes(4, "big") + text.encode())
            sock.recv(1 << 16)


def what_it_says(node: RunningNode) -> dict[str, bytes]:
    """Everything that anybody may read while it runs."""
    said = {
        path: control(node, "GET", path)[1]
        for path in ("/", "/metrics", "/api/v1/mounts", "/api/v1/stats", "/api/v1/jobs", "/api/v1/pins")
    }
    for path in ("/healthz", "/readyz"):
        said[path] = control(node, "GET", path, token="")[1]
    said["anonymous"] = unsigned(node, "GET", "/").body
    for command in (["status", "--json"], ["top", "--count", "1"], ["mount", "ls", "--json"], ["doctor", "--json"]):
        done = node.cli(*command, check=False)
        said[" ".join(command)] = (done.stdout + done.stderr).encode()
    for process in [node.process.pid, *node.worker_pids()]:
        said[f"command line of {process}"] = Path(f"/proc/{process}/cmdline").read_bytes()
    return said


def files_of(node: RunningNode, *, but: set[str]) -> dict[str, bytes]:
    found = {}
    for path in node.config.parent.rglob("*"):
        if path.is_file() and path.name not in but:
            found[str(path)] = path.read_bytes()
    return found


def dump(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump()).encode()


def test_26_and_27_no_secret_is_in_a_log_a_number_an_answer_or_the_ledger(tmp_path: Path) -> None:
    canaries = Canaries()
    key_secret, store_secret, file_secret = (
        canaries.new("key in the environment"),
        canaries.new("store secret"),
        canaries.new("file secret"),
    )
    literal = canaries.new("literal key in the settings")
    half, broken, bystander = canaries.new("half a credential"), canaries.new("broken file"), canaries.new("other environment")
    place = tmp_path / "store"
    place.mkdir()
    (place / "x").write_text("x")
    home = tmp_path / "node"
    home.mkdir()
    for name, text in (("canary.ini", f"AKCANARY\n{file_secret}\n"), ("broken.ini", f"[[[{broken}")):
        (home / name).write_text(text)
        (home / name).chmod(0o600)
    config = (
        f'[[mount]]\npath = "/data"\nstore = "file://{place}"\n'
        f'[[mount]]\npath = "/gone"\ncredentials = "env:CANARY"\n{AWAY}'
        f'[[mount]]\npath = "/filed"\ncredentials = "file:{home}/canary.ini"\n{AWAY}'
        f'[[key]]\nid = "analyst"\nsecret = "env:ANALYST"\n[[key]]\nid = "literal"\nsecret = "{literal}"\n'
    )
    environ = {
        "CANARY_ACCESS_KEY_ID": "AKCANARY",
        "CANARY_SECRET_ACCESS_KEY": store_secret,
        "ANALYST": key_secret,
        "HALF_SECRET_ACCESS_KEY": half,
        "BYSTANDER_TOKEN": bystander,
    }
    node = start_node(home, config, processes=1, environ=environ)
    try:
        canaries.texts |= {"admin token": node.token, "owner secret": node.secret}
        assert Caller(node, "analyst", key_secret).ask("GET", "/data/x").status == 200
        assert Caller(node, "literal", literal).ask("GET", "/data/x").status == 200
        assert owner(node).ask("GET", "/gone/x").status == 503
        assert owner(node).ask("GET", "/filed/x").status == 503
        by_control, first = drive_control(node, canaries)
        by_data, second = drive_data(node, canaries)
        drive_handoff(node, canaries)
        assert by_control + by_data >= 200, "fewer failures than this test is about"
        said = {"answers of the control port": first, "answers of the data port": second, **what_it_says(node)}
        assert json.loads(said["/api/v1/mounts"]), "the mounts were told"
    finally:
        stop_node(node)
    files = files_of(node, but=PRIVATE | {"headrace.toml", "canary.ini", "broken.ini"})
    assert any(name.endswith("headrace.log") for name in files)
    searched = {**said, **files, "ledger dump": dump(node.home / "ledger.db")}
    hits = {place: names for place, data in searched.items() if (names := canaries.found_in(data))}
    assert hits == {}
    for path in node.home.rglob("*"):
        if path.name in PRIVATE:
            assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"


def test_26_the_search_finds_a_canary_where_there_is_one(tmp_path: Path) -> None:
    canaries = Canaries()
    text = canaries.new("known")
    with closing(sqlite3.connect(tmp_path / "x.db")) as database:
        database.execute("create table t (a text)")
        database.execute("insert into t values (?)", (text,))
        database.commit()
    assert canaries.found_in(dump(tmp_path / "x.db")) == ["known"]
    assert canaries.found_in(b"nothing") == []
