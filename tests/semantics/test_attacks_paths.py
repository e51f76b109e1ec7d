"""Attacks by path and by name on a whole node: one reading of a path, no bucket that is a route, nothing outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from support.attacks import Caller, control, owner, unsigned
from support.node import RunningNode, running_node

pytestmark = pytest.mark.servers

BOB_SECRET = "bobs-secret-of-these-tests-3f9a"
ROUTE_NAMES = ("metrics", "healthz", "readyz", "api", "static", "webhdfs", "console", "login")
COMPOSED, DECOMPOSED = "\u00f1", "n\u0303"
NASTY = "<script>alert(1)</script>\x1b[31m$(id)`id`;id.txt"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    place = tmp_path_factory.mktemp("store")
    (place / "outside.txt").write_text("OUTSIDE")
    data = place / "data"
    for name in ("a/secret", "A/secret", COMPOSED, DECOMPOSED):
        (data / name).mkdir(parents=True)
        (data / name / "x").write_text(f"data:{name}/x")
    (data / "a" / "open").write_text("open")
    (data / NASTY.replace("/", "_")).write_text("nasty")
    (data / "leak").symlink_to("../outside.txt")
    tables = "".join(
        f'[[mount]]\npath = "/{name}"\nstore = "file://{data}"\nfreshness = "1s"\n' for name in ("data", *ROUTE_NAMES)
    )
    rules = "".join(
        f'[[rule]]\npath = "{path}"\ncallers = ["bob"]\neffect = "deny"\n' for path in ("/data/a/secret/*", f"/data/{COMPOSED}")
    )
    keys = f'[[key]]\nid = "bob"\nsecret = "{BOB_SECRET}"\n'
    with running_node(tmp_path_factory.mktemp("node"), tables + keys + rules, processes=1) as running:
        yield running


@pytest.fixture(scope="module")
def bob(node: RunningNode) -> Caller:
    return Caller(node, "bob", BOB_SECRET)


@pytest.mark.parametrize(
    "sent",
    ["/data/a/secret/x", "/data/a%2Fsecret%2Fx", "/data/a%2fsecret/x", "/data/%61/secret/x", "/data%2Fa/secret/x"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_17_every_spelling_of_a_denied_path_is_denied(node: RunningNode, bob: Caller, method: str, sent: str) -> None:
    assert owner(node).respelled("GET", "/data/a/secret/x", sent).body == b"data:a/secret/x", (
        "and its owner reads it by that spelling"
    )
    answer = bob.respelled(method, "/data/a/secret/x", sent)
    assert answer.status == 403
    assert b"data:" not in answer.body


def test_17_neighbours_of_a_denied_path_are_other_objects(node: RunningNode, bob: Caller) -> None:
    assert bob.ask("GET", "/data/a/open").body == b"open"
    assert bob.ask("GET", "/data/A/secret/x").body == b"data:A/secret/x"
    assert bob.ask("GET", "/data/" + quote(f"{DECOMPOSED}/x")).body == f"data:{DECOMPOSED}/x".encode()
    assert bob.ask("GET", "/data/" + quote(f"{COMPOSED}/x")).status == 403
    for path in ("/data/a//secret/x", "/data/a/./secret/x", "/data/a/b/../secret/x", "/data//a/secret/x"):
        answer = bob.ask("GET", path)
        assert (answer.status in (400, 403, 404), b"data:" in answer.body) == (True, False), f"{path}: {answer}"
        assert b"data:" not in owner(node).ask("GET", path).body, "the store must not fold what the policy does not"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "&delimiter=%2F",
        "&prefix=a",
        "&prefix=a%2F",
        "&prefix=a%2Fs",
        "&prefix=a%2F&delimiter=%2F",
        "&start-after=a%2F",
        "&max-keys=1",
    ],
)
def test_17_listings_do_not_show_what_is_denied(node: RunningNode, bob: Caller, query: str) -> None:
    seen, token = b"", ""
    for _ in range(20):
        answer = bob.ask("GET", f"/data?list-type=2{query}{token}&encoding-type=url")
        assert answer.status == 200, answer
        seen += answer.body
        following = answer.body.partition(b"<NextContinuationToken>")[2].partition(b"<")[0]
        if not following:
            break
        token = "&continuation-token=" + quote(following.decode(), safe="")
    assert b"a/secret/" not in seen
    assert quote(COMPOSED).encode() not in seen
    assert b"a/secret/x" in owner(node).ask("GET", "/data?list-type=2&prefix=a%2Fsecret%2F").body


@pytest.mark.parametrize("name", ROUTE_NAMES)
def test_19_a_bucket_called_like_a_route_is_a_bucket_on_the_data_port(node: RunningNode, name: str) -> None:
    asker = owner(node)
    assert asker.ask("GET", f"/{name}/a/open").body == b"open"
    assert b"<Key>a/open</Key>" in asker.ask("GET", f"/{name}?list-type=2").body
    for path in (f"/{name}", f"/{name}/a/open", f"/{name}/v1/mounts"):
        answer = unsigned(node, "GET", path)
        assert (answer.status, answer.code) == (403, "AccessDenied")


def test_19_the_control_port_shows_no_object_and_the_data_port_no_route(node: RunningNode) -> None:
    for path in ("/data/a/open", "/metrics/a/open", "/static/../../../../outside.txt", "/static/%2e%2e/app.py"):
        status, body = control(node, "GET", path)
        assert (status, b"open" in body.split(b"served at")[0], b"OUTSIDE" in body) == (404, False, False)
    for path in ("/", "/metrics", "/healthz", "/api/v1/mounts", "/debug/pprof", "/docs", "/openapi.json"):
        answer = unsigned(node, "GET", path)
        assert answer.status == 403
        assert b"headrace_" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/openapi.json",
        "/redoc",
        "/debug",
        "/debug/pprof/",
        "/api/v1/stats",
        "/metrics",
        "/",
        "/api/v1/mounts",
        "/api/v1/pins",
        "/static/console.js",
        "/server-status",
    ],
)
def test_23_and_25_the_control_port_says_nothing_without_the_token(node: RunningNode, path: str) -> None:
    for token in ("", "wrong", node.token[:-1], node.token + "x", node.secret):
        status, body = control(node, "GET", path, token=token)
        assert status == 401
        assert str(node.home).encode() not in body
    assert control(node, "GET", "/healthz", token="") == (200, b"ok\n")


@pytest.mark.parametrize(
    "path",
    [
        "/data/leak",
        "/data/../outside.txt",
        "/data/%2e%2e/outside.txt",
        "/data/..%2Foutside.txt",
        "/data/a/../../outside.txt",
        "/data/%252e%252e/outside.txt",
        "/data/..%5Coutside.txt",
        "/data/%00",
        "/data/%c0%ae%c0%ae/outside.txt",
    ],
)
def test_15_and_18_no_key_leads_outside_the_directory(node: RunningNode, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = owner(node).ask(method, path)
        assert answer.status in (400, 403, 404), f"{answer}"
        assert b"OUTSIDE" not in answer.body


def test_41_a_name_full_of_markup_and_controls_is_only_a_name(node: RunningNode) -> None:
    name = NASTY.replace("/", "_")
    assert owner(node).ask("GET", "/data/" + quote(name)).body == b"nasty"
    listed = owner(node).ask("GET", "/data?list-type=2&encoding-type=url").body
    assert quote(name, safe="").encode() in listed.replace(b"%3c", b"%3C")
    for command in (["ls", "/data"], ["stat", f"/data/{name}"], ["stat", f"/data/{name}.not"], ["status"]):
        done = node.cli(*command, check=False)
        assert "\x1b" not in done.stdout + done.stderr, f"{command}"
    page = control(node, "GET", "/")[1]
    assert b"<script>alert" not in page
    assert b"\x1b" not in page
    metrics = control(node, "GET", "/metrics")[1]
    assert b"\x1b" not in metrics
    assert json.loads(control(node, "GET", "/api/v1/stats")[1]), "it is still JSON"


def test_41_a_key_id_that_is_a_command_is_refused_and_its_audit_line_cannot_forge_another(node: RunningNode) -> None:
    for key_id in ("$(touch pwned)", "a\tb", "' OR 1=1 --", "<b>x</b>"):
        answer = Caller(node, key_id, "whatever-secret").ask("GET", "/data/a/open")
        assert answer.status in (400, 403)
    log = b"".join(path.read_bytes() for path in Path(node.home).rglob("*.log"))
    assert b"\x1b" not in log
