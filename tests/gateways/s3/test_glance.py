"""Requests that look like one before are answered at a glance, and exactly as the long way answers them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from headrace.gateways.s3.hot import HotPath
from headrace.model.events import ReadsServed
from headrace.model.objects import ByteRange
from headrace.model.reading import Reading
from headrace.namespace.table import MountTable
from headrace.policy.rules import Policy, Rule
from support.gateway import KEY_ID, SECRET, Answer, RunningGateway, WarmStore, gateway, split_answers

_VARYING = ("x-amz-request-id", "date", "age")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningGateway]:
    store = WarmStore()
    store.put("some key", bytes(range(256)) * 16)
    store.put("other", b"another")
    with gateway({"/data": store}) as running:
        glance = HotPath.glance
        running.events.clear()
        seen: list[bool] = []

        def watched(self: HotPath, *arguments: object) -> object:
            found = glance(self, *arguments)  # type: ignore[arg-type]
            seen.append(found is not None)
            return found

        monkeypatch.setattr(HotPath, "glance", watched)
        running.glances = seen  # type: ignore[attr-defined]
        yield running


def glances(running: RunningGateway) -> list[bool]:
    return running.glances  # type: ignore[attr-defined,no-any-return]


class Line:
    """One connection that stays open."""

    def __init__(self, running: RunningGateway) -> None:
        self._sock = socket.create_connection((running.host, running.port), timeout=10)

    def ask(self, data: bytes) -> Answer:
        self._sock.sendall(data)
        received = b""
        while True:
            chunk = self._sock.recv(1 << 16)
            received += chunk
            head, found, body = received.partition(b"\r\n\r\n")
            if not chunk or (found and len(body) >= _length(head)):
                return split_answers(received)[0]

    def close(self) -> None:
        self._sock.close()


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


@pytest.fixture
def line(running: RunningGateway) -> Iterator[Line]:
    line = Line(running)
    yield line
    line.close()


def good(running: RunningGateway, path: str = "/data/some%20key", **headers: str) -> bytes:
    return running.sign("GET", path, dict(headers), close=False)


def warm(running: RunningGateway, line: Line, data: bytes) -> None:
    """Ask until the connection's form is known."""
    for _ in range(5):
        assert line.ask(data).status in (200, 206)
        if glances(running)[-1:] == [True]:
            break
    assert glances(running)[-1] is True
    glances(running).clear()


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    return answer.status, {name: value for name, value in answer.headers.items() if name not in _VARYING}, answer.body


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-1000"}, {"Range": "bytes=4000-"}, {"Range": "bytes=0-99999"}])
def test_answers_as_the_long_way_does(running: RunningGateway, line: Line, headers: dict[str, str]) -> None:
    data = good(running, **headers)
    first = line.ask(data)
    warm(running, line, data)
    again = line.ask(data)
    assert glances(running) == [True]
    assert told(again) == told(first)
    assert again.headers.keys() == first.headers.keys()
    assert again.headers["x-amz-request-id"] != first.headers["x-amz-request-id"]


def test_other_paths_and_ranges_have_the_same_form(running: RunningGateway, line: Line) -> None:
    warm(running, line, good(running, Range="bytes=0-1"))
    other = good(running, "/data/other", Range="bytes=3-5")
    assert line.ask(other).body == b"the"
    warm(running, line, other)
    assert line.ask(other).body == b"the"


def test_signed_values_that_are_not_canonical_are_read_the_long_way(running: RunningGateway, line: Line) -> None:
    spaced = good(running, **{"x-amz-meta-colour": "light  blue"})
    for _ in range(5):
        assert line.ask(spaced).status == 200
    assert True not in glances(running)
    warm(running, line, good(running, **{"x-amz-meta-colour": "light blue sky"}))
    assert line.ask(spaced).status == 200
    assert glances(running) == [False]


def test_several_pieces_are_one_answer(running: RunningGateway, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    store = running.stores["/data"]
    whole = store.peek

    def in_pieces(key: str, byte_range: ByteRange | None) -> Reading | None:
        reading = whole(key, byte_range)
        assert reading is not None and reading.ready is not None
        (body,) = reading.ready
        assert isinstance(body, memoryview)
        reading.ready = (body[:1000], body[1000:1001], body[1001:])
        return reading

    data = good(running)
    expected = line.ask(data)
    monkeypatch.setattr(store, "peek", in_pieces)
    warm(running, line, data)
    assert told(line.ask(data)) == told(expected)
    assert glances(running) == [True]


def _replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def _swap_signature(data: bytes) -> bytes:
    at = data.index(b"Signature=") + len(b"Signature=")
    return data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        _swap_signature,
        _replace(b"/data/some%20key", b"/data/other"),
        _replace(b"/data/some%20key", b"/data/some%2520key"),
        _replace(b"bytes=5-9", b"bytes=5-8"),
        _replace(b"bytes=5-9", b"bytes=9-5"),
        _replace(b"host: 127.0.0.1", b"host: 127.0.0.2"),
        _replace(b"GET ", b"PUT "),
        _replace(b"/us-east-1/", b"/us-east-2/"),
        _replace(KEY_ID.encode(), b"nobody"),
        _replace(b"SignedHeaders=host;", b"SignedHeaders="),
        _replace(b"\r\n\r\n", b"\r\nx-amz-meta-more: unsigned\r\n\r\n"),
        _replace(b"e3b0c442", b"e3b0c443"),
        _replace(b"HTTP/1.1", b"HTTP/1.2"),
    ],
)
def test_refuses_what_the_long_way_refuses(running: RunningGateway, line: Line, change: Callable[[bytes], bytes]) -> None:
    data = good(running, Range="bytes=5-9")
    warm(running, line, data)
    changed = change(data)
    fresh = Line(running)
    expected = fresh.ask(changed)
    fresh.close()
    answer = line.ask(changed)
    assert answer.status == expected.status >= 400
    assert answer.code == expected.code


@pytest.mark.parametrize("moved_s", [-1000, 1000])
def test_a_request_is_right_for_its_time_only(running: RunningGateway, line: Line, moved_s: float) -> None:
    data = good(running)
    warm(running, line, data)
    running.clock.offset_s = moved_s
    assert line.ask(data).code == "RequestTimeTooSkewed"


def test_a_key_that_was_taken_away_or_changed_is_refused_at_once(running: RunningGateway, line: Line) -> None:
    data = good(running)
    warm(running, line, data)
    running.keys.replace({KEY_ID: SECRET + "x"})
    assert line.ask(data).code == "SignatureDoesNotMatch"
    running.keys.replace({})
    assert line.ask(data).code == "InvalidAccessKeyId"
    running.keys.replace({KEY_ID: SECRET})
    warm(running, line, data)


def test_a_new_rule_holds_from_the_next_request(running: RunningGateway, line: Line) -> None:
    data = good(running)
    warm(running, line, data)
    running.gateway.policy = Policy((Rule("/data", effect="deny"),))
    assert line.ask(data).status == 403
    running.gateway.policy = Policy()
    warm(running, line, data)


def test_a_mount_that_is_gone_answers_no_more(running: RunningGateway, line: Line) -> None:
    data = good(running)
    warm(running, line, data)
    running.namespace.table = MountTable()
    assert line.ask(data).status == 404


def test_a_glance_is_counted_and_told(running: RunningGateway, line: Line) -> None:
    data = good(running)
    warm(running, line, data)
    before = running.server.stats()
    running.events.clear()
    for _ in range(7):
        line.ask(data)
    after = running.server.stats()
    assert glances(running) == [True] * 7
    assert after.hits - before.hits == 7
    assert after.bytes_sent - before.bytes_sent == 7 * 4096
    assert sum(row.requests for row in after.requests) - sum(row.requests for row in before.requests) == 7
    assert after.in_flight == 0
    told = [event for event in running.events if isinstance(event, ReadsServed)]
    assert (sum(event.reads for event in told), sum(event.bytes for event in told)) == (7, 7 * 4096)
    assert {(event.mount, event.served) for event in told} == {("/data", "hit")}


def test_requests_sent_together_are_answered_in_order(running: RunningGateway, line: Line) -> None:
    data, other = good(running), good(running, "/data/other")
    warm(running, line, data)
    line._sock.sendall(data + other + data)
    received = b""
    while received.count(b"HTTP/1.1 200") < 3 or len(received) < 2 * 4096 + 7:
        received += line._sock.recv(1 << 16)
    bodies = [answer.body for answer in split_answers(received)]
    assert [len(body) for body in bodies] == [4096, 7, 4096]
