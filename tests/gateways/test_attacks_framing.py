"""Attacks by framing, size and slowness: refused, closed, and the second request never runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from headrace.gateways.settings import GatewaySettings
from support.gateway import DEADLINE_S, RunningGateway, WarmStore, gateway, split_answers, until

BODY = b"0123456789" * 10
FAST = GatewaySettings(
    sweep_s=0.02, head_timeout_s=0.3, idle_timeout_s=0.5, floor_window_s=0.4, linger_s=0.2, max_connections=1100
)


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    store = WarmStore()
    store.put("key", BODY)
    store.put("large", b"z" * 30_000_000)
    with gateway({"/data": store}, settings=FAST, loop=request.param) as found:
        yield found


def good(running: RunningGateway) -> int:
    return sum(count.requests for count in running.server.stats().requests if count.status_class == "2xx")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\ncontent-length: 0\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nX: y\n\r\n\r\n",
        b"GET /data/key HTTP/1.1\nHost: h\n\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nX: y\r\n folded\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        b"GET /data/key HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_36_nothing_runs_behind_bad_framing(running: RunningGateway, head: bytes) -> None:
    before = good(running)
    answers = running.talk(head + running.sign("GET", "/data/key"))
    assert [answer.status for answer in answers][:1] in ([400], [403])
    assert len(answers) == 1
    assert answers[0].headers["connection"] == "close"
    assert good(running) == before


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /data/key HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 65536 + b"\r\n\r\n", 431),
        (b"GET /data/key HTTP/1.1\r\nHost: h\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(1000)) + b"\r\n", 431),
        (b"GET /" + b"k" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"G" * 70000, 414),
        (b"GET /data/key HTTP/3.0\r\nHost: h\r\n\r\n", 505),
    ],
)
def test_35_too_much_of_anything(running: RunningGateway, head: bytes, status: int) -> None:
    answers = running.talk(head)
    assert [answer.status for answer in answers] == [status]


def test_33_a_body_that_nobody_wants_is_bounded(running: RunningGateway) -> None:
    answer = running.talk(
        running.sign("GET", "/data/key", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, body=b"<a>" * 1_000_000)
    )[0]
    assert answer.status in (400, 413)


@pytest.mark.parametrize("value", ["bytes=" + ",".join(f"{i}-{i}" for i in range(3000)), "bytes=-0", "bytes=9-1", f"bytes=0-{2**64}",  # noqa: E501
                                   f"bytes={2**64}-", "bytes=" + "," * 5000, "bytes=0-50,20-90"])  # fmt: skip
def test_34_ranges_are_cheap(running: RunningGateway, value: str) -> None:
    data = running.sign("GET", "/data/key", {"Range": value})
    answer = running.talk(data)[0]
    assert answer.status in (200, 206, 416)
    if answer.status == 416:
        assert answer.headers["content-range"] == "bytes */100"


def connect(running: RunningGateway) -> socket.socket:
    return socket.create_connection((running.host, running.port), timeout=DEADLINE_S)


def read_all(sock: socket.socket) -> bytes:
    found = b""
    try:
        while chunk := sock.recv(65536):
            found += chunk
    except ConnectionResetError:
        pass
    return found


def test_37_a_slow_head_is_cut(running: RunningGateway) -> None:
    with connect(running) as sock:
        sock.sendall(b"GET /data/key HTTP/1.1\r\nHo")
        begin = time.monotonic()
        assert split_answers(read_all(sock))[0].status == 408
        assert time.monotonic() - begin < 5


def test_37_an_idle_connection_is_closed(running: RunningGateway) -> None:
    with connect(running) as sock:
        assert read_all(sock) == b""


def test_37_a_slow_body_is_cut(running: RunningGateway) -> None:
    head = running.sign("GET", "/data/key", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, body=b"x" * 1000)[:-999]
    with connect(running) as sock:
        sock.sendall(head)
        assert split_answers(read_all(sock))[0].status == 400


def test_37_a_slow_reader_is_cut_and_never_gets_a_whole_looking_body(running: RunningGateway) -> None:
    before = running.server.stats().connections.cut_slow
    with connect(running) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(running.sign("GET", "/data/large"))
        until(lambda: running.server.stats().connections.cut_slow > before)
        assert len(read_all(sock)) < 30_000_000


def test_37_half_closed_clients_get_their_answers(running: RunningGateway) -> None:
    answers = running.talk(running.sign("GET", "/data/key", close=False) * 3, eof=True)
    assert [answer.body for answer in answers] == [BODY] * 3


def test_37_a_thousand_idle_connections_do_not_hurt_others(running: RunningGateway) -> None:
    idle = [connect(running) for _ in range(1000)]
    try:
        assert running.ask("GET", "/data/key").body == BODY
    finally:
        for sock in idle:
            sock.close()
    until(lambda: running.server.stats().connections.open == 0)


def test_too_many_connections_are_refused_in_words() -> None:
    with gateway(settings=GatewaySettings(sweep_s=0.05, max_connections=2)) as own:
        kept = [connect(own), connect(own)]
        until(lambda: own.server.stats().connections.open == 2)
        with connect(own) as third:
            answer = split_answers(read_all(third))[0]
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "SlowDown", "1")
        kept[0].close()
        until(lambda: own.server.stats().connections.open < 2)
        assert own.ask("GET", "/data/nothing").status == 404
        kept[1].close()
