"""Logging in to Swift: headers of version 1, Keystone's documents, tokens that end, and wrong mounts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.stores.registry import open_store
from headrace.stores.store import Store

KEYSTONE = {"S_USERNAME": "ann", "S_PASSWORD": "PLANTED", "S_PROJECT_NAME": "research"}


def open_swift(store: str, environ: Mapping[str, str], **options: str) -> Store:
    spec = MountSpec("/s", store, **{"credentials": "env:S", **options})  # type: ignore[arg-type]  # all text
    return open_store(spec, environ=environ, clock=SystemClock())


@asynccontextmanager
async def scripted(answer: Callable[[str, str, bytes], bytes]) -> AsyncIterator[str]:
    """A server of one answer per connection: the request's line, its head and body in, bytes out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length")), 0)
        writer.write(answer(head.split("\r\n")[0], head, await reader.readexactly(length)))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def told(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", "connection: close", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def catalog(url: str, *, region: str = "north") -> bytes:
    """What Keystone answers with a token."""
    places = [
        {"interface": "internal", "region": region, "url": "http://inside/"},
        {"interface": "public", "region": region, "url": f"{url}/v1/AUTH_research/"},
    ]
    services = [{"type": "compute", "endpoints": []}, {"type": "object-store", "endpoints": places}]
    return json.dumps({"token": {"expires_at": "2099-01-01T00:00:00.000000Z", "catalog": services}}).encode()


async def test_keystone_gives_a_token_that_is_taken_anew_when_it_was_revoked() -> None:
    asked: list[bytes] = []
    heads: list[str] = []

    def answer(line: str, head: str, body: bytes) -> bytes:
        if line == "POST /v3/auth/tokens HTTP/1.1":
            asked.append(body)
            return told("201 Created", f"x-subject-token: token-{len(asked)}", body=catalog(f"http://{_host(head)}"))
        heads.append(head)
        if "x-auth-token: token-1" in head:
            return told("401 Unauthorized")
        return told("200 OK", 'etag: "abc"', "x-timestamp: 1700000000.5", "content-type: text/plain")

    async with scripted(answer) as url:
        store = open_swift("swift://c", KEYSTONE, endpoint=url)
        info = await store.info("a b")
        assert (info.etag, info.version.token, info.modified_s) == ("abc", "etag:abc", 1700000000.5)
        assert await store.info("a b") == info
        await store.close()
    assert [head.split("\r\n")[0] for head in heads] == ["HEAD /v1/AUTH_research/c/a%20b HTTP/1.1"] * 3
    assert len(asked) == 2
    found = json.loads(asked[0])["auth"]
    assert found["scope"] == {"project": {"name": "research", "domain": {"name": "Default"}}}
    assert found["identity"]["password"]["user"] == {"name": "ann", "domain": {"name": "Default"}, "password": "PLANTED"}


def _host(head: str) -> str:
    return next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("host:"))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (told("401 Unauthorized"), AccessDenied, "check the credentials"),
        (told("503 Service Unavailable"), Unavailable, "503"),
        (told("201 Created", "x-subject-token: t", body=b"<html>"), Unavailable, "no Keystone version 3"),
        (told("201 Created", "x-subject-token: t", body=catalog("http://x", region="south")), SettingsError, "region 'north'"),
    ],
    ids=["refused", "busy", "something else", "another region"],
)
async def test_a_login_that_fails_says_why_and_shows_no_secret(answer: bytes, kind: type[Exception], words: str) -> None:
    async with scripted(lambda *_: answer) as url:
        store = open_swift("swift://c", {**KEYSTONE, "S_REGION_NAME": "north"}, endpoint=url)
        with pytest.raises(kind, match=words) as caught:
            await store.info("a")
        assert "PLANTED" not in str(caught.value)
        await store.close()


async def test_a_refused_token_is_tried_again_once() -> None:
    logins = 0

    def answer(line: str, head: str, _: bytes) -> bytes:
        nonlocal logins
        if "/auth/v1.0" in line:
            logins += 1
            return told("200 OK", f"x-auth-token: t{logins}", f"x-storage-url: http://{_host(head)}/v1/A")
        return told("401 Unauthorized")

    async with scripted(answer) as url:
        store = open_swift("swift://c", {"S_USERNAME": "a:b", "S_PASSWORD": "p"}, endpoint=url)
        with pytest.raises(AccessDenied, match="401"):
            await store.info("a")
        await store.close()
    assert logins == 2


async def test_a_storage_address_that_the_rule_forbids_is_not_asked() -> None:
    forbidden = told("200 OK", "x-auth-token: t", "x-storage-url: http://169.254.169.254/v1/A")
    async with scripted(lambda *_: forbidden) as url:
        store = open_swift("swift://c", {"S_USERNAME": "a:b", "S_PASSWORD": "p"}, endpoint=url)
        with pytest.raises(AccessDenied, match="metadata address"):
            await store.info("a")
        await store.close()


@pytest.mark.parametrize(
    ("store", "options", "environ", "words"),
    [
        ("swift://", {"endpoint": "http://h"}, KEYSTONE, "name the container"),
        ("swift://c", {}, KEYSTONE, "set endpoint"),
        ("swift://c", {"endpoint": "http://169.254.169.254"}, KEYSTONE, "metadata"),
        ("swift://c", {"endpoint": "http://h"}, {"S_USERNAME": "a"}, "S_PASSWORD|PREFIX_PASSWORD"),
        ("swift://c", {"endpoint": "http://h", "credentials": "anonymous"}, {}, "Swift takes env:PREFIX"),
    ],
)
def test_a_wrong_mount_is_refused_by_name(store: str, options: dict[str, str], environ: Mapping[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        open_swift(store, environ, **options)
