"""Listening sockets of a node."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from headrace.model.errors import SettingsError
from headrace.node.home import Home, reachable, read_addresses
from headrace.node.listen import listen_many, listen_unix, parse_address, show_address


def test_several_sockets_share_one_port() -> None:
    sockets = listen_many("127.0.0.1:0", 3)
    assert len({sock.getsockname() for sock in sockets}) == 1
    for _ in range(20):
        socket.create_connection(sockets[0].getsockname()).close()
    for sock in sockets:
        sock.close()


def test_a_port_that_somebody_serves_is_refused_though_it_could_be_shared() -> None:
    first = listen_many("127.0.0.1:0", 1)[0]
    with pytest.raises(SettingsError, match="cannot listen on 127"):
        listen_many(show_address(first), 2)
    first.close()


@pytest.mark.parametrize("text", ["", "9400", "host:", "host:http", "host:70000", ":9400"])
def test_a_wrong_address_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="host:port"):
        parse_address(text)


def test_ipv6_addresses_stand_in_brackets() -> None:
    assert parse_address("[::1]:9400") == ("::1", 9400)


def test_a_unix_socket_is_its_owners_alone_and_replaces_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    listen_unix(path).close()
    sock = listen_unix(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sock.close()


def test_a_home_belongs_to_one_node_at_a_time(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "h"), Home(tmp_path / "h")
    first.prepare()
    first.lock()
    first.write_addresses("http://127.0.0.1:1", "http://127.0.0.1:2")
    with pytest.raises(SettingsError, match="another node"):
        second.lock()
    second.unlock()
    assert read_addresses(first.path) is not None, "who was refused must not take the other's addresses away"
    first.unlock()
    assert read_addresses(first.path) is None
    second.lock()
    second.unlock()
    assert stat.S_IMODE((tmp_path / "h").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:9400", "http://127.0.0.1:9400"),
        (":9400", "http://127.0.0.1:9400"),
        ("0.0.0.0:9400", "http://127.0.0.1:9400"),
        ("[::]:9400", "http://[::1]:9400"),
        ("data.example:80", "http://data.example:80"),
    ],
)
def test_what_listens_everywhere_is_reached_on_this_machine(listen: str, url: str) -> None:
    assert reachable(listen) == url
