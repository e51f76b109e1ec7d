"""Connections of one mount: kept, bounded, waited for, and made to whichever address answers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from headrace.model.errors import SettingsError, Unavailable
from headrace.stores.guard import AddressInfo
from headrace.stores.http import Http, HttpResponse, HttpSettings
from headrace.stores.sending import Sending
from support.processes import free_port
from support.scripted import http_answer, scripted


async def taken(http: Http, url: str) -> bytes:
    return await (await http.request("GET", url)).read()


async def test_requests_at_once_have_a_connection_each_up_to_the_bound_and_the_others_wait() -> None:
    async with scripted(lambda *_: http_answer(200, b"x" * 10)) as server:
        http = Http(HttpSettings(max_connections=2))
        held = [await http.request("GET", server.endpoint + "/k") for _ in range(3)]
        for response in held:
            response.close()
        found = await asyncio.gather(*(taken(http, server.endpoint + f"/{n}") for n in range(40)))
        await http.close()
        assert found == [b"x" * 10] * 40
        assert server.connections <= 4


async def test_one_that_is_given_up_while_it_waits_takes_no_place() -> None:
    async with scripted(lambda first, _: None if "/held" in first else http_answer(200)) as server:
        http = Http(HttpSettings(max_connections=1))
        holders = [asyncio.ensure_future(http.request("GET", server.endpoint + "/held")) for _ in range(2)]
        waiting = [asyncio.ensure_future(taken(http, server.endpoint + "/k")) for _ in range(3)]
        await asyncio.sleep(0)
        await server.asked(2)
        waiting[0].cancel()
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)
        assert await asyncio.gather(*waiting[1:]) == [b"", b""]
        assert waiting[0].cancelled()
        await http.close()


async def test_a_read_on_a_kept_connection_that_ended_is_sent_again_and_a_write_is_not() -> None:
    async with scripted(lambda *_: http_answer(200, b"ok")) as server:
        http = Http()
        await taken(http, server.endpoint + "/first")
        server.drop_next = True
        assert await taken(http, server.endpoint + "/second") == b"ok"
        server.drop_next = True
        with pytest.raises(Unavailable, match="ended before an answer"):
            await http.request("PUT", server.endpoint + "/third", body=b"data")
        await http.close()
        assert [first.split()[1] for first, _ in server.requests] == ["/first", "/second", "/second", "/third"]


async def test_a_read_on_a_new_connection_is_sent_once() -> None:
    async with scripted(lambda *_: http_answer(200)) as server:
        http = Http()
        server.drop_next = True
        with pytest.raises(Unavailable):
            await taken(http, server.endpoint + "/k")
        await http.close()
        assert len(server.requests) == 1


async def test_a_pool_that_was_closed_can_be_used_again() -> None:
    async with scripted(lambda *_: http_answer(200, b"ok")) as server:
        http = Http()
        for _ in range(2):
            assert await taken(http, server.endpoint + "/k") == b"ok"
            await http.close()
        await http.close()
        assert server.connections == 2


async def test_closing_ends_what_is_under_way() -> None:
    async with scripted(lambda *_: None) as server:
        http = Http()
        asking = asyncio.ensure_future(http.request("GET", server.endpoint + "/k"))
        await server.asked(1)
        await http.close()
        with pytest.raises(Unavailable):
            await asking


async def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(lambda *_: http_answer(200, b"ok")) as server:
        resolve_to(monkeypatch, ("127.0.0.2", free_port()), ("127.0.0.1", server.port))
        http = Http()
        assert await taken(http, f"http://store.example:{server.port}/k") == b"ok"
        await http.close()


async def test_the_next_address_is_tried_when_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(lambda *_: http_answer(200, b"ok")) as server:
        resolve_to(monkeypatch, ("127.0.0.2", 9), ("127.0.0.1", server.port))
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        async def silent(sock: socket.socket, address: Any) -> None:
            if address[0] == "127.0.0.2":
                await asyncio.Event().wait()
            await connect(sock, address)

        monkeypatch.setattr(loop, "sock_connect", silent)
        http = Http()
        assert await taken(http, f"http://store.example:{server.port}/k") == b"ok"
        await http.close()


async def test_addresses_are_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(lambda *_: http_answer(200, b"ok"), close_after=True) as server:
        asked = resolve_to(monkeypatch, ("127.0.0.1", server.port))
        http = Http()
        await asyncio.gather(*(taken(http, f"http://store.example:{server.port}/k") for _ in range(10)))
        for _ in range(4):
            await taken(http, f"http://store.example:{server.port}/k")
        await http.close()
        assert server.connections == 14
        assert len(asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/k",
        "127.0.0.1/k",
        "http:///k",
        "http://user:secret@127.0.0.1/k",
        "http://127.0.0.1:99999/k",
        "http://127.0.0.1:x/k",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\r\nx: y",
        "http://127.0.0.1/é",
        "http://127.0.0.1/a#b",
    ],
)
async def test_what_cannot_stand_in_a_request_line_is_refused(url: str) -> None:
    http = Http()
    with pytest.raises(SettingsError) as caught:
        await http.request("GET", url)
    assert "secret" not in str(caught.value)
    await http.close()


@pytest.mark.parametrize(("name", "value"), [("x", "a\r\ny: b"), ("x", "a\x00"), ("x y", "a"), ("x:", "a"), ("", "a")])
async def test_a_header_that_would_be_another_is_refused(name: str, value: str) -> None:
    async with scripted(lambda *_: http_answer(200)) as server:
        http = Http()
        with pytest.raises(SettingsError):
            await http.request("GET", server.endpoint + "/k", headers=[(name, value)])
        await http.close()
        assert not server.requests


async def test_a_success_before_the_whole_body_was_sent_is_none() -> None:
    async def source() -> Any:
        yield b"a" * 500
        yield b"a" * 500  # lets the one before it go
        await asyncio.Event().wait()

    async with scripted(lambda *_: http_answer(200), takes_bodies=False) as server:
        http = Http()
        with pytest.raises(Unavailable, match="before it had the whole body"):
            await http.request("PUT", server.endpoint + "/k", body=Sending(source(), 2000))
        await http.close()


async def test_a_refusal_before_the_whole_body_was_sent_is_told() -> None:
    async def source() -> Any:
        yield b"a" * 500
        yield b"a" * 500  # lets the one before it go
        await asyncio.Event().wait()

    async with scripted(lambda *_: http_answer(403, b"why"), takes_bodies=False) as server:
        http = Http()
        response: HttpResponse = await http.request("PUT", server.endpoint + "/k", body=Sending(source(), 2000))
        assert response.status == 403
        assert await response.read() == b"why"
        await http.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *targets: tuple[str, int]) -> list[str]:
    """Names resolve to `targets`; returns the names that were asked for."""
    asked = []

    async def lookup(host: str, *_: object, **__: object) -> list[AddressInfo]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", target) for target in targets]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    return asked
