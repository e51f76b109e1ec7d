"""Whose word is taken: the client's address, the host it names, and whether a browser speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.gateways.http.messages import Request
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.webhdfs.asked import read_asked
from headrace.gateways.webhdfs.grants import Grants
from headrace.gateways.webhdfs.identity import Doorkeeper
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.gateways.webhdfs.tokenbook import TokenBook

SETTINGS = WebHdfsSettings(
    trust_user_name_from=("10.0.0.0/8", "fd00::/8"), hosts=("gw.corp",), advertise="https://front.corp:443"
)


def caller(folder: Path, peer: str, headers: dict[bytes, bytes], query: bytes = b"op=OPEN&user.name=ann") -> str:
    keys = KeyRing()
    keeper = Doorkeeper(
        Authenticator(keys, "us-east-1"), TokenBook(folder, keys.token_key, SETTINGS), Grants(keys.token_key), SETTINGS
    )
    request = Request(b"GET", b"/webhdfs/v1/a", query, headers, True, peer)
    return keeper.identify(request, read_asked(request.path, query), 0.0).caller.key_id


@pytest.mark.parametrize(
    ("peer", "believed"),
    [("10.1.2.3:999", True), ("::ffff:10.1.2.3:999", True), ("fd00::1:999", True), ("fd00::1%eth0:999", True),
     ("11.1.2.3:999", False),
     ("fe80::1:999", False), ("::ffff:11.1.2.3:999", False), ("", False), ("unix", False)],
)  # fmt: skip
def test_a_name_is_believed_by_the_clients_address(tmp_path: Path, peer: str, believed: bool) -> None:
    assert caller(tmp_path, peer, {b"host": b"10.0.0.1:9400"}) == ("ann" if believed else "")


@pytest.mark.parametrize(
    ("host", "believed"),
    [(b"10.0.0.1", True), (b"[fd00::1]:9400", True), (b"localhost:9400", True), (b"GW.corp", True), (b"front.corp:443", True),
     (b"evil.corp", False), (b"gw.corp.evil", False), (b"10.0.0.1.evil", False), (b"", False), (b"[", False)],
)  # fmt: skip
def test_and_by_the_host_that_it_names(tmp_path: Path, host: bytes, believed: bool) -> None:
    assert caller(tmp_path, "10.1.2.3:999", {b"host": host}) == ("ann" if believed else "")


def test_but_never_where_a_browsers_page_speaks_or_nobody_is_named(tmp_path: Path) -> None:
    assert caller(tmp_path, "10.1.2.3:999", {b"host": b"10.0.0.1", b"origin": b"http://10.0.0.1"}) == ""
    assert caller(tmp_path, "10.1.2.3:999", {b"host": b"10.0.0.1"}, b"op=OPEN") == ""
    assert caller(tmp_path, "10.1.2.3:999", {b"host": b"10.0.0.1"}, b"op=OPEN&user.name=ann&user.name=ann") == "ann"
