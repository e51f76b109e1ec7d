"""Attack 36 behind a real nginx that keeps its connections to the gateway: what nginx does not know of never runs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.gateways.settings import GatewaySettings
from headrace.model.objects import ByteRange
from headrace.model.reading import Reading
from support.gateway import DEADLINE_S, RunningGateway, WarmStore, gateway, signed_request, split_answers
from support.processes import free_port
from support.servers import nginx

pytestmark = pytest.mark.servers

BODY = b"0123456789" * 10
SMUGGLED = b"what only the hidden request gets"


class WatchedStore(WarmStore):
    """Counts every look at its objects."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        self.looks += 1
        return super().peek(key, byte_range, files=files)


class Proxied:
    """A gateway behind nginx, the store that only smuggled requests ask, and nginx's own account of what it was asked."""

    def __init__(self, running: RunningGateway, hidden: WatchedStore, port: int, log: Path) -> None:
        self.running = running
        self.hidden = hidden
        self.port = port
        self.log = log

    def signed(self, path: str, *, close: bool = False) -> bytes:
        return signed_request("", "GET", path, host=f"127.0.0.1:{self.port}", close=close)

    def talk(self, data: bytes) -> bytes:
        """Everything that comes back for `data` until nginx closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as sock:
            received = b""
            with suppress(ConnectionResetError, BrokenPipeError):
                sock.sendall(data)
                while chunk := sock.recv(1 << 16):
                    received += chunk
            return received

    def known(self) -> list[tuple[str, int]]:
        """Path and status of each request that nginx saw, once all answers are out."""
        lines = [line.split('"') for line in self.log.read_text("latin-1").splitlines()]
        return [(line[1].split(" ")[1] if " " in line[1] else "", int(line[2].split()[0])) for line in lines]


@pytest.fixture(scope="module", params=["on", "off"], ids=["bodies kept back", "bodies passed on"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("nginx")
    store, hidden = WarmStore(), WatchedStore()
    store.put("key", BODY)
    hidden.put("second", SMUGGLED)
    settings = GatewaySettings(sweep_s=0.02, head_timeout_s=2.0, idle_timeout_s=30.0, linger_s=0.2)
    port = free_port()
    with gateway({"/data": store, "/hidden": hidden}, settings=settings) as running:
        block = f"""
            log_format told '"$request" $status';
            upstream headrace {{ server 127.0.0.1:{running.port}; keepalive 1; }}
            server {{
                listen 127.0.0.1:{port};
                access_log {folder / "access.log"} told;
                lingering_close off;
                keepalive_timeout 300ms;
                client_header_timeout 300ms;
                client_body_timeout 300ms;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $http_host;
                proxy_request_buffering {request.param};
                proxy_next_upstream off;
                location / {{ proxy_pass http://headrace; }}
            }}"""
        with nginx(folder, block, port=port):
            yield Proxied(running, hidden, port, folder / "access.log")


LINE = b"GET /data/key HTTP/1.1\r\nHost: h\r\n"
PUT = b"PUT /data/new HTTP/1.1\r\nHost: h\r\n"


def chunk(data: bytes, *, end: bytes = b"\r\n") -> bytes:
    return b"%x\r\n%b%b" % (len(data), data, end)


def attacks(second: bytes) -> dict[str, bytes]:
    """Requests that hide `second` from one of two readers of their framing."""
    whole = chunk(second) + b"0\r\n\r\n"
    return {
        "length and chunked": LINE + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % len(second) + second,
        "chunked and length": LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + whole,
        "two lengths": LINE + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(second) + second,
        "two lengths, the other first": LINE + b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(second) + second,
        "a list of lengths": LINE + b"Content-Length: 0, %d\r\n\r\n" % len(second) + second,
        "signed length": LINE + b"Content-Length: +%d\r\n\r\n" % len(second) + second,
        "xchunked": LINE + b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n\r\n" % len(second) + second,
        "xchunked alone": LINE + b"Transfer-Encoding: xchunked\r\n\r\n" + whole,
        "chunked twice": LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + whole,
        "chunked after a tab": LINE
        + b"Transfer-Encoding:\tchunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n" % len(second)
        + second,
        "blank before the colon": LINE + b"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n\r\n" % len(second) + second,
        "bad end of a chunk": LINE + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"abc", end=b"XX") + b"0\r\n\r\n" + second,
        "no end of a chunk": LINE + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"abc", end=b"") + second,
        "chunk that swallows": LINE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\nabc\r\n0\r\n\r\n" % (len(second) + 8) + second,
        "size beyond any number": LINE + b"Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n" + second,
        "size with a prefix": LINE + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n" + second,
        "request in a chunk's extension": LINE + b"Transfer-Encoding: chunked\r\n\r\n3;a=\n" + second + b"\r\nabc\r\n0\r\n\r\n",
        "bare LF hides a length": LINE + b"X: y\nContent-Length: %d\r\n\r\n" % len(second) + second,
        "bare CR hides a length": LINE + b"X: y\rContent-Length: %d\r\n\r\n" % len(second) + second,
        "folded length": LINE + b"X: y\r\n Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(second) + second,
        "folded coding": LINE + b"Content-Length: %d\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" % len(second) + second,
        "NUL in a name": LINE + b"Content-Length\0: 0\r\nContent-Length: %d\r\n\r\n" % len(second) + second,
        "request as a refused body": LINE + b"Content-Length: %d\r\n\r\n" % len(second) + second,
        "request as a body of chunks": LINE + b"Transfer-Encoding: chunked\r\n\r\n" + whole,
        "request as a refused upload": PUT + b"Content-Length: %d\r\n\r\n" % len(second) + second,
        "request as an expected body": PUT + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(second) + second,
    }


@pytest.mark.parametrize("name", attacks(b"").keys())
def test_36_what_nginx_does_not_know_of_never_runs(proxied: Proxied, name: str) -> None:
    honest = proxied.signed("/data/key", close=True)
    assert split_answers(proxied.talk(honest))[0].body == BODY
    before, looks = len(proxied.known()), proxied.hidden.looks
    received = proxied.talk(attacks(proxied.signed("/hidden/second"))[name])
    assert SMUGGLED not in received
    for _ in range(3):
        after = split_answers(proxied.talk(honest))
        assert [answer.body for answer in after] == [BODY]
    known = proxied.known()[before:]
    assert sum(path == "/hidden/second" for path, _ in known) == proxied.hidden.looks - looks == 0
    assert known[-3:] == [("/data/key", 200)] * 3
    assert known[0][1] >= 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("content", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", ""])
def test_36_the_body_of_a_signed_request_is_never_a_request(proxied: Proxied, method: str, content: str) -> None:
    host, looks = f"127.0.0.1:{proxied.port}", proxied.hidden.looks
    headers = {"X-Amz-Content-SHA256": content} if content else {}
    second = proxied.signed("/hidden/second")
    attack = signed_request("", method, "/data/key", headers, host=host, body=second, close=False)
    assert SMUGGLED not in proxied.talk(attack)
    assert [answer.body for answer in split_answers(proxied.talk(proxied.signed("/data/key", close=True)))] == [BODY]
    assert proxied.hidden.looks == looks


def test_36_the_hidden_request_would_have_run_and_connections_are_shared(proxied: Proxied) -> None:
    looks, accepted = proxied.hidden.looks, proxied.running.server.stats().connections.accepted
    for _ in range(4):
        assert split_answers(proxied.talk(proxied.signed("/hidden/second", close=True)))[0].body == SMUGGLED
    assert proxied.hidden.looks == looks + 4
    assert proxied.running.server.stats().connections.accepted - accepted <= 1


def test_36_a_request_behind_another_is_answered_as_its_own(proxied: Proxied) -> None:
    both = proxied.signed("/data/key") + proxied.signed("/hidden/second", close=True)
    assert [answer.body for answer in split_answers(proxied.talk(both))] == [BODY, SMUGGLED]
