"""What one caller brought into the cache is no help to another: pages, versions, listings and absences stay behind the policy."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.stores.handoff import LENGTH_BYTES, frame
from support.attacks import Caller, control, owner
from support.gateway import signed_request
from support.node import RunningNode, running_node
from support.processes import wait_until

pytestmark = pytest.mark.servers

GUEST_SECRET = "guest-secret-of-these-tests-77"
BODY = b"HOT-BYTES-" * 40_000


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    place = tmp_path_factory.mktemp("store")
    (place / "mine").mkdir()
    (place / "mine" / "hot").write_bytes(BODY)
    (place / "open").write_bytes(BODY)
    mounts = "".join(f'[[mount]]\npath = "/{name}"\nstore = "file://{place}"\nfreshness = "1h"\n' for name in ("data", "other"))
    rules = (
        f'[[key]]\nid = "guest"\nsecret = "{GUEST_SECRET}"\n[[rule]]\npath = "/data/mine"\ncallers = ["guest"]\neffect = "deny"\n'
    )
    with running_node(tmp_path_factory.mktemp("node"), mounts + rules, processes=1) as running:
        for _ in range(3):
            assert owner(running).ask("GET", "/data/mine/hot").body == BODY
            assert owner(running).ask("GET", "/data/open").body == BODY
            assert owner(running).ask("GET", "/data/mine/absent").code == "NoSuchKey"
        yield running


def handoff(node: RunningNode, key_id: str, secret: str, path: str) -> tuple[bytes, list[int]]:
    """One framed request over the node's Unix socket; descriptors that came are the caller's to close."""
    head = signed_request(node.data_url, "GET", path, {"range": "bytes=0-399999"}, key_id=key_id, secret=secret, close=False)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(node.home / "run" / "handoff.sock"))
        sock.sendall(frame(head))
        data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 64)
    return data[LENGTH_BYTES:], fds


@pytest.mark.parametrize("path", ["/data/mine/hot", "/data/mine/absent", "/data/mine%2Fhot", "/data/mine/hot?versionId=null"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Range": "bytes=0-9"},
        {"Range": "bytes=-5"},
        {"If-None-Match": "*"},
        {"If-Match": '"x"'},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"Range": "bytes=999999999-"},
    ],
)
def test_29_a_cached_object_a_cached_absence_and_a_condition_look_the_same_to_who_may_not_read(
    node: RunningNode, path: str, headers: dict[str, str]
) -> None:
    guest = Caller(node, "guest", GUEST_SECRET)
    for method in ("GET", "HEAD"):
        answer = guest.ask(method, path, headers)
        assert answer.status == 403
        assert not {"etag", "last-modified", "x-headrace-cache", "accept-ranges", "content-range"} & set(answer.headers)
        assert b"HOT" not in answer.body


def test_29_listings_and_attributes_are_refused_as_well(node: RunningNode) -> None:
    guest = Caller(node, "guest", GUEST_SECRET)
    assert guest.ask("GET", "/data?list-type=2&prefix=mine%2F").status == 403
    for query in ("list-type=2", "prefix=", "list-type=2&delimiter=%2F", "list-type=2&start-after=mine%2Fa", "marker=mine%2F"):
        answer = guest.ask("GET", f"/data?{query}")
        assert answer.status == 200
        assert b"mine/" not in answer.body.replace(b"<StartAfter>mine/a", b"").replace(b"<Marker>mine/", b"")
    for query in ("tagging", "attributes"):
        headers = {"x-amz-object-attributes": "ETag,ObjectSize"} if query == "attributes" else {}
        assert guest.ask("GET", f"/data/mine/hot?{query}", headers).status == 403


def test_29_the_handoff_socket_gives_no_file_to_who_may_not_read(node: RunningNode) -> None:
    answer, fds = handoff(node, node.key_id, node.secret, "/data/mine/hot")
    for fd in fds:
        socket.close(fd)
    assert fds, f"the owner gets files: {answer!r}"
    for key_id, secret, path in (
        ("guest", GUEST_SECRET, "/data/mine/hot"),
        ("guest", GUEST_SECRET, "/data/mine%2Fhot"),
        ("guest", "wrong-secret", "/data/open"),
        ("guest", GUEST_SECRET, "/data/mine/absent"),
        ("nobody", GUEST_SECRET, "/data/open"),
        (node.key_id, GUEST_SECRET, "/data/mine/hot"),
    ):
        answer, fds = handoff(node, key_id, secret, path)
        assert fds == [], f"{key_id} {path}"
        assert b'"info":null' in answer
        assert b"etag" not in answer


def test_29_what_a_guest_may_read_is_still_read(node: RunningNode) -> None:
    guest = Caller(node, "guest", GUEST_SECRET)
    assert guest.ask("GET", "/data/open").body == BODY
    assert guest.ask("GET", "/other/mine/hot").body == BODY


def test_29_a_refusal_leaves_a_line_in_the_audit(node: RunningNode) -> None:
    from headrace.ledger.ledger import Ledger
    from headrace.model.clock import SystemClock

    Caller(node, "guest", GUEST_SECRET).ask("GET", "/data/mine/hot-audited")
    ledger = Ledger(node.home, SystemClock())
    try:
        from support.gateway import until

        until(lambda: any(line.target == "/data/mine/hot-audited" for line in ledger.audit.recent(50)))
        lines = [line for line in ledger.audit.recent(50) if line.target == "/data/mine/hot-audited"]
        assert [line.actor for line in lines] == ["guest"]
    finally:
        ledger.close()


def page_ids(node: RunningNode) -> set[str]:
    return {
        path.name.partition(".")[0]
        for path in (node.home / "pages").rglob("*")
        if path.is_file() and len(path.name.partition(".")[0]) == 32
    }


def test_30_one_store_path_under_two_credentials_shares_no_page(node: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "o").write_bytes(hashlib.sha256(b"o").digest() * 10_000)
    for number, reference in enumerate(("env:ONE", "env:TWO")):
        spec = {"path": f"/twin{number}", "store": f"file://{tmp_path}", "credentials": reference, "freshness": "1h"}
        assert control(node, "POST", "/api/v1/mounts", spec)[0] == 201
    before = page_ids(node)
    first = owner(node).ask("GET", "/twin0/o")
    # Pages are named behind their reader's back, shortly after its last byte.
    wait_until(lambda: bool(page_ids(node) - before), "the first mount's pages")
    after_first = page_ids(node)
    second = owner(node).ask("GET", "/twin1/o")
    wait_until(lambda: bool(page_ids(node) - after_first), "pages of its own for the second mount")
    after_second = page_ids(node)
    assert (first.status, second.status, first.headers["etag"]) == (200, 200, second.headers["etag"])
    assert len(after_first - before) == 1
    assert len(after_second - after_first) == 1
