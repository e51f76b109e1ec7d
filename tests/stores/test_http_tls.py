"""Stores behind TLS: an authority of one's own is trusted when it is named, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from headrace.model.errors import Unavailable
from headrace.model.writing import BytesBody
from headrace.stores.contract import read_all
from headrace.stores.http import Http, HttpSettings
from headrace.stores.s3 import S3Store
from headrace.stores.sending import Sending
from support.authority import Authority
from support.processes import free_port
from support.s3_stores import s3_requests
from support.servers import S3Server, nginx

pytestmark = pytest.mark.servers

LARGE = 3 << 20


def front(target: str, chain: Path, key: Path, port: int) -> str:
    """nginx that speaks TLS on `port` and passes everything on as it came."""
    return (
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {chain}; ssl_certificate_key {key}; client_max_body_size 0;\n"
        f"location / {{ proxy_pass {target}; proxy_http_version 1.1; proxy_set_header Host $http_host; "
        "proxy_request_buffering off; } }"
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_a_store_with_a_named_authority_is_read_and_written(
    tmp_path: Path, authority: Authority, seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    seaweedfs_server.make_bucket("tls")
    port, server = free_port(), seaweedfs_server
    with nginx(tmp_path, front(server.endpoint, *authority.issue("localhost"), port), port=port):
        store = S3Store(s3_requests(f"https://localhost:{port}", "tls", key_id=server.access_key, secret=server.secret_key))
        for size in (0, 10, LARGE):
            data = os.urandom(size)
            written = await store.write(f"k{size}", BytesBody(data))
            assert written.size == size
            assert await read_all(store, f"k{size}") == data
        await store.close()


def test_under_uvloop_connections_are_kept_and_large_bodies_go_both_ways(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    port, root = free_port(), tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    chain, key = authority.issue("localhost")
    block = (
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {chain}; ssl_certificate_key {key}; root {root}; "
        "client_max_body_size 0; add_header x-connection $connection; location / { dav_methods PUT; } }"
    )
    data = os.urandom(LARGE)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, LARGE, 65536):
            yield data[start : start + 65536]

    async def both_ways() -> None:
        http = Http()
        written = await http.request("PUT", f"https://localhost:{port}/k", body=Sending(pieces(), LARGE))
        await written.read()
        read = await http.request("GET", f"https://localhost:{port}/k")
        assert await read.read(LARGE) == data
        await http.close()
        assert read.headers["x-connection"] == written.headers["x-connection"]

    with nginx(tmp_path, block, port=port):
        uvloop.run(both_ways())


@pytest.mark.parametrize(
    ("issued", "days", "trusted", "reason"),
    [
        ("elsewhere.example", 2, True, "not valid for 'localhost'"),
        ("localhost", 2, False, "unable to get local issuer certificate"),
        ("localhost", -1, True, "expired"),
    ],
)
async def test_any_other_certificate_is_refused_with_the_reason(
    tmp_path: Path, issued: str, days: int, trusted: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "one")
    monkeypatch.setenv("SSL_CERT_FILE", str((authority if trusted else Authority(tmp_path / "two", "another authority")).file))
    port, seen = free_port(), tmp_path / "access.log"
    chain, key = authority.issue(issued, days=days)
    block = (
        f"access_log {seen}; server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {chain}; ssl_certificate_key {key}; "
        "location / { return 200 'secret'; } }"
    )
    with nginx(tmp_path, block, port=port):
        http = Http(HttpSettings(connect_timeout_s=5.0))
        with pytest.raises(Unavailable, match="certificate is refused") as caught:
            await http.request("GET", f"https://localhost:{port}/k", headers=[("authorization", "secret")])
        await http.close()
    assert reason in str(caught.value)
    assert "SSL_CERT_FILE" in str(caught.value)
    assert not seen.read_text().count("/k")  # nothing was asked of it


async def test_plain_http_from_a_server_that_wants_tls_is_no_answer(tmp_path: Path, authority: Authority) -> None:
    port = free_port()
    chain, key = authority.issue("localhost")
    block = f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {chain}; ssl_certificate_key {key}; }}"
    with nginx(tmp_path, block, port=port):
        http = Http()
        response = await http.request("GET", f"http://localhost:{port}/")
        assert response.status == 400
        response.close()
        await http.close()
