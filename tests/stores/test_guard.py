"""Which addresses are refused, in every way of writing them, and that the one connected to is the one checked."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import AccessDenied
from headrace.stores.guard import AddressGuard, AddressRefused, parse_literal
from headrace.stores.http import Http
from support.scripted import http_answer, scripted

REFUSED = [
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",
    "0xa9fea9fe",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "[::ffff:a9fe:a9fe]",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "metadata.google.internal",
    "Metadata.Google.Internal.",
]
ALLOWED = [
    "127.0.0.1",
    "::1",
    "10.1.2.3",
    "192.168.0.9",
    "172.16.0.1",
    "fd12::1",
    "93.184.216.34",
    "store.example",
    "::ffff:10.0.0.1",
]


@pytest.mark.parametrize("host", REFUSED)
def test_refused_in_every_form(host: str) -> None:
    with pytest.raises(AddressRefused, match="allow_private"):
        AddressGuard().check_host(host)


@pytest.mark.parametrize("host", REFUSED)
def test_allow_private_allows_all(host: str) -> None:
    AddressGuard(allow_private=True).check_host(host)


@pytest.mark.parametrize("host", ALLOWED)
def test_loopback_and_private_networks_are_allowed(host: str) -> None:
    AddressGuard().check_host(host)


def test_only_the_permitted_address_is_let_through() -> None:
    guard = AddressGuard(permitted=frozenset({"169.254.169.254"}))
    guard.check_host("169.254.169.254")
    guard.check_address("169.254.169.254")
    with pytest.raises(AddressRefused):
        guard.check_host("169.254.169.253")


@settings(deadline=None)
@given(st.integers(0, 0xFFFF), st.sampled_from(["{}", "{:#x}", "{:#o}", "::ffff:{}"]))
def test_every_link_local_address_is_refused_whatever_its_form(low: int, form: str) -> None:
    number = (169 << 24) + (254 << 16) + low
    dotted = f"169.254.{low >> 8}.{low & 255}"
    text = form.format(dotted) if form.startswith("::") else form.format(number).replace("0o", "0")
    with pytest.raises(AddressRefused):
        AddressGuard().check_host(text)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_literal_or_a_name(text: str) -> None:
    literal = parse_literal(text)
    assert literal is None or parse_literal(str(literal)) == literal


async def test_a_name_that_resolves_to_a_refused_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lookup(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    http = Http()
    with pytest.raises(AccessDenied, match="metadata"):
        await http.request("GET", "http://innocent.example/")
    await http.close()


async def test_the_address_connected_to_is_checked_even_when_dns_answers_were_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's check is taken away: the socket's own check still holds."""
    monkeypatch.setattr("headrace.stores.guard.GuardedResolver.resolve", _metadata_address)
    http = Http()
    with pytest.raises(AccessDenied, match="metadata"):
        await http.request("GET", "http://innocent.example/")
    await http.close()


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "metadata"])
async def test_requests_to_refused_targets_never_connect(host: str) -> None:
    http = Http()
    with pytest.raises(AccessDenied, match="allow_private"):
        await http.request("GET", f"http://{host}/latest/meta-data/")
    await http.close()


async def test_loopback_is_reached() -> None:
    async with scripted(lambda *_: http_answer(200, b"ok")) as server:
        http = Http()
        assert await (await http.request("GET", server.endpoint + "/")).read() == b"ok"
        await http.close()


async def _metadata_address(*_: object, **__: object) -> list[tuple[object, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
