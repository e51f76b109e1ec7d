"""Web servers as they are met: changes within a second, in place, redirects, refusals, answers that prove nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, HeadraceError, NotFound, SettingsError, Unavailable, Unsupported, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange
from headrace.stores.contract_hooks import read_all
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from headrace.wiring import Parts, try_mount
from support.processes import free_port
from support.web import nginx_files, python_files

PAST = "Mon, 05 Jan 2026 10:00:00 GMT"


def open_web(url: str, environ: Mapping[str, str] = {}, **options: object) -> Store:
    return open_store(MountSpec("/w", url, **options), environ=environ, clock=SystemClock())  # type: ignore[arg-type]  # of tests


@pytest.fixture(scope="module")
def by_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("root")
    password = root.parent / "password"
    password.write_text("ann:{PLAIN}pa-ss\n")
    more = (
        "location /bare/ { autoindex off; }\n"
        f'location /secret/ {{ auth_basic "s"; auth_basic_user_file {password}; }}\n'
        "location /moved/ { return 302 /kept/; } location = /moved/a { return 302 /kept/a; }\n"
        "location = /loop { return 302 /loop; } location = /meta { return 302 http://169.254.169.254/latest/; }\n"
        "location /get-only/ { limit_except GET { deny all; } } location = /refused { return 405; }\n"
    )
    for name in ("bare", "secret", "kept", "live"):
        (root / name).mkdir()
        (root / name / "a").write_bytes(name.encode())
        os.utime(root / name / "a", (1_700_000_000, 1_700_000_000))
    with nginx_files(tmp_path_factory.mktemp("nginx"), root, more=more) as url:
        yield url, root


@pytest.mark.servers
@pytest.mark.parametrize("server", ["nginx", "python"])
async def test_changes_within_one_second_are_never_taken_for_the_same_version(
    server: str, by_nginx: tuple[str, Path], tmp_path: Path
) -> None:
    """Both contents have one length, and one stamp as far as HTTP tells."""
    if server == "python":
        (tmp_path / "live").mkdir()
        with python_files(tmp_path, tmp_path) as url:
            await _check_changes(f"{url}/live", tmp_path / "live" / "quick")
    else:
        await _check_changes(f"{by_nginx[0]}/live", by_nginx[1] / "live" / "quick")


async def _check_changes(url: str, path: Path) -> None:
    store = open_web(url)
    path.write_bytes(b"1" * 100)
    early = asyncio.ensure_future(store.info("quick"))
    await asyncio.sleep(0)
    path.write_bytes(b"2" * 100)
    info = await early
    assert time.time() - path.stat().st_mtime > 1
    assert await read_all(store, "quick", version=info.version) == b"2" * 100
    path.write_bytes(b"3" * 100)
    with pytest.raises(VersionChanged):
        await read_all(store, "quick", version=info.version)
    assert await read_all(store, "quick") == b"3" * 100
    await store.close()


@pytest.mark.servers
async def test_a_file_that_is_overwritten_in_place_while_it_is_sent_is_an_error(by_nginx: tuple[str, Path]) -> None:
    path = by_nginx[1] / "live" / "large"
    path.write_bytes(b"1" * 20_000_000)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    store = open_web(f"{by_nginx[0]}/live")
    pieces = []
    with pytest.raises(VersionChanged):
        async for piece in await store.read("large"):
            if not pieces:
                with path.open("r+b") as file:
                    file.write(b"2" * 20_000_000)
            pieces.append(len(piece))
    assert sum(pieces) < 20_000_000
    await store.close()


@pytest.mark.servers
async def test_redirects_are_followed_within_the_address_rule(by_nginx: tuple[str, Path]) -> None:
    store = open_web(by_nginx[0])
    assert await read_all(store, "moved/a") == b"kept"
    with pytest.raises(NotFound, match="directory"):
        await store.info("kept")
    with pytest.raises(Unavailable, match="more than 5 redirects"):
        await store.info("loop")
    with pytest.raises(AccessDenied, match="metadata address"):
        await store.info("meta")
    with pytest.raises(Unsupported, match="405: the server does not take HEAD"):
        await store.info("refused")
    await store.close()


@pytest.mark.servers
async def test_a_login_is_sent_and_one_that_is_missing_or_wrong_is_said(by_nginx: tuple[str, Path]) -> None:
    url = f"{by_nginx[0]}/secret"
    for environ, credentials in (({}, ""), ({"W_USERNAME": "ann", "W_PASSWORD": "PLANTED"}, "env:W")):
        store = open_web(url, environ, credentials=credentials)
        with pytest.raises(AccessDenied, match="401: the server wants a login") as caught:
            await store.info("a")
        assert "PLANTED" not in str(caught.value)
        await store.close()
    store = open_web(url, {"W_USERNAME": "ann", "W_PASSWORD": "pa-ss"}, credentials="env:W")
    assert await read_all(store, "a", ByteRange(1, 3)) == b"ec"
    assert [entry.key for entry in (await store.list()).entries] == ["a"]
    await store.close()


@pytest.mark.servers
async def test_a_directory_without_an_index_page_is_mounted_with_index_pages_false(by_nginx: tuple[str, Path]) -> None:
    parts = Parts(SystemClock(), lambda _event: None, {})
    with pytest.raises(AccessDenied, match="index_pages = false"):
        await try_mount(MountSpec("/w", f"{by_nginx[0]}/bare"), parts)
    with pytest.raises(Unsupported, match="index_pages = false"):
        await try_mount(MountSpec("/w", f"{by_nginx[0]}/absent"), parts)
    spec = MountSpec("/w", f"{by_nginx[0]}/bare", index_pages=False)
    assert await try_mount(spec, parts)
    with pytest.raises(Unavailable, match="connection refused"):
        await try_mount(MountSpec("/w", f"http://127.0.0.1:{free_port()}/", index_pages=False, timeout="1s"), parts)
    store = open_web(spec.store, index_pages=False)
    assert await read_all(store, "a") == b"bare"
    with pytest.raises(Unsupported, match="never listed"):
        await store.list()
    await store.close()


@asynccontextmanager
async def scripted(answer: Callable[[str, str, str], bytes]) -> Iterator[str]:  # type: ignore[misc]  # an async generator
    """A server of one answer per connection: method, path and head in, bytes out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        writer.write(answer(method, path, head))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def told(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (("content-length: 3",), "neither a strong ETag nor Last-Modified"),
        (("content-length: 3", 'etag: W/"x"'), "neither a strong ETag nor Last-Modified"),
        (("transfer-encoding: chunked", 'etag: "x"'), "no Content-Length"),
    ],
)
async def test_what_proves_no_version_or_length_is_no_object(headers: tuple[str, ...], words: str) -> None:
    page = told(b'<a href="gen">', "content-type: text/html", "content-length: 14")

    def answer(method: str, path: str, _: str) -> bytes:
        if path.endswith("/"):
            return page
        return told(b"" if method == "HEAD" or "transfer" in headers[0] else b"abc", *headers)

    async with scripted(answer) as url:
        store = open_web(url)
        for verb in (store.info, store.read):
            verb_call: Callable[[str], Awaitable[object]] = verb
            with pytest.raises(Unsupported, match=words):
                await verb_call("gen")
        assert (await store.list()).entries == ()
        await store.close()


async def test_a_login_goes_to_no_other_origin() -> None:
    seen: list[str] = []

    def other(_: str, path: str, head: str) -> bytes:
        seen.append(head)
        return told(b"", "content-length: 3", 'etag: "x"')

    async with scripted(other) as elsewhere:

        def first(_: str, path: str, head: str) -> bytes:
            seen.append(head)
            return told(b"", f"location: {elsewhere}{path}?signed=1", "content-length: 0", status="307 Temporary Redirect")

        async with scripted(first) as url:
            store = open_web(url, {"W_TOKEN": "t0k3n"}, credentials="env:W")
            assert (await store.info("a")).size == 3
            await store.close()
    assert ["t0k3n" in head for head in seen] == [True, False]


async def test_a_redirect_that_leaves_tls_and_one_without_a_place_are_errors() -> None:
    async with scripted(lambda *_: told(b"", "content-length: 0", status="302 Found")) as url:
        store = open_web(url)
        with pytest.raises(Unavailable, match="without a place to go"):
            await store.info("a")
        await store.close()


@pytest.mark.parametrize("short", [b"", b"ab", b"abcd"])
async def test_a_body_that_ends_early_is_an_error(short: bytes) -> None:
    def answer(method: str, path: str, _: str) -> bytes:
        return told(b"" if method == "HEAD" else short, "content-length: 5", 'etag: "x"')

    async with scripted(answer) as url:
        store = open_web(url)
        with pytest.raises(HeadraceError):
            await read_all(store, "a")
        await store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://ann:PLANTED@host/x", "credentials do not belong"),
        ("http://host/x?key=PLANTED", "without a query"),
        ("http://host/x#PLANTED", "without a query"),
        ("http://host/a/../b", "percent-encoded path"),
        ("http://host/a%2e%2E/../b", "percent-encoded path"),
        ("http://host/a//b", "percent-encoded path"),
        ("http://host/100%", "percent-encoded path"),
        ("http://host/a b", "percent-encoded path"),
        ("http://", "write http://"),
        ("http://169.254.169.254/x", "metadata"),
        ("http://metadata.google.internal/x", "metadata"),
    ],
)
def test_a_wrong_url_is_refused_by_name(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        open_web(url)
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(("credentials", "words"), [("env:W", "W_USERNAME"), ("secret", "never a secret itself")])
def test_a_wrong_login_is_refused_by_name(credentials: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        open_web("http://host", credentials=credentials)
