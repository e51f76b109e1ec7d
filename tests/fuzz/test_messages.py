"""What processes of one node send each other: any bytes are a message or end the conversation, never the process."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cache.keeper import Keeper
from headrace.cache.layout import FOOTER_BYTES, Geometry, mount_tag, object_id
from headrace.cache.touches import SOCKET_NAME, Batch, Created, Group, TouchesListener
from headrace.model.clock import SystemClock
from headrace.model.errors import Unavailable
from headrace.model.events import BackgroundError
from headrace.node.channel import Channel
from headrace.node.messages import AskStats, Done, Envelope, Event, Load, Notice, Reply, Request

TAG = mount_tag("m")
NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["../../etc/passwd", "/etc/passwd", "", ".", "..", "keeper.lock", "a" * 300, "\0", "x/y", "000/../../x"]),
    st.builds(
        lambda key, tail: object_id("m", key, "t").hex() + tail,
        st.text(max_size=3),
        st.sampled_from([".w", ".p0", ".c1", ".part", ".p01"]),
    ),
)
NUMBERS = st.integers(-(2**63), 2**64 - 1)
BATCHES = st.builds(
    Batch,
    group=st.builds(Group, tag=st.binary(max_size=6), quota_bytes=NUMBERS, ttl_s=st.floats()),
    touched=st.lists(NAMES, max_size=3).map(tuple),
    created=st.lists(st.builds(Created, name=NAMES, size=NUMBERS), max_size=3).map(tuple),
    removed=st.lists(NAMES, max_size=3).map(tuple),
)
DATAGRAMS = st.one_of(st.binary(max_size=200), BATCHES.map(msgspec.msgpack.encode))


@settings(max_examples=150, deadline=None)
@given(data=DATAGRAMS)
def test_any_datagram_is_a_batch_or_passed_over(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listener = TouchesListener(folder)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(data, f"{folder}/{SOCKET_NAME}")
            found = listener.receive()
            assert found is None or isinstance(found, Batch)
            assert (found is None) == (listener.malformed == 1)
        finally:
            listener.close()


@settings(max_examples=4, deadline=None)
@given(data=st.lists(DATAGRAMS, min_size=10, max_size=40))
def test_a_keeper_that_is_told_anything_keeps_on_and_touches_no_other_file(data: list[bytes]) -> None:
    events: list[object] = []
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        pages.mkdir()
        kept = Path(folder) / "kept.txt"
        kept.write_text("kept")
        keeper = Keeper(str(pages), 1 << 20, Geometry(4096), clock=SystemClock(), emit=events.append)
        stop = threading.Event()
        thread = threading.Thread(target=keeper.run, args=(stop,))
        thread.start()
        try:
            until(lambda: (pages / SOCKET_NAME).exists())
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                for datagram in data:
                    sender.sendto(datagram, f"{pages}/{SOCKET_NAME}")
                good = object_id("m", "good", "t").hex() + ".p0"
                # Moved in whole: the keeper takes empty folders away.
                made = Path(folder) / "made"
                made.mkdir()
                (made / good).write_bytes(b"x" * (4096 + FOOTER_BYTES))
                made.rename(pages / good[:3])
                sender.sendto(
                    msgspec.msgpack.encode(Batch(Group(TAG), created=(Created(good, 4096 + FOOTER_BYTES),))),
                    f"{pages}/{SOCKET_NAME}",
                )
            until(lambda: keeper.stats().segments >= 1 or bool(events))
            assert thread.is_alive()
            assert [event for event in events if isinstance(event, BackgroundError)] == []
            assert keeper.stats().bytes >= 0
            assert kept.read_text() == "kept"
        finally:
            stop.set()
            thread.join(10)
            assert not thread.is_alive()


def until(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "request", "reply", "event", "type", "path", "spec", "state"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)
KINDS = st.sampled_from(
    ["Boot", "Apply", "AskStats", "Load", "Free", "Drain", "Done", "Amount", "Failed", "Audit", "Notice", "Nothing"]
)
MESSAGES = st.builds(
    lambda number, slot, kind, rest: msgspec.json.encode({"id": number, slot: {"type": kind, **rest}}),
    st.integers(-1, 3),
    st.sampled_from(["request", "reply", "event"]),
    KINDS,
    st.dictionaries(
        st.sampled_from(["path", "bytes", "what", "error", "kind", "message", "deadline_s"]),
        st.integers() | st.text(max_size=4),
        max_size=3,
    ),
)
LINES = st.one_of(st.binary(max_size=80), JSONS.map(msgspec.json.encode), MESSAGES)


async def _answer(request: Request) -> Reply:
    if isinstance(request, Load):
        raise KeyError("a fault of the handler")
    return Done()


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(LINES, min_size=1, max_size=4), number=st.integers(1, 1 << 40))
def test_any_line_is_heard_or_ends_the_channel_and_nobody_waits_for_ever(lines: list[bytes], number: int) -> None:
    async def talk() -> None:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        heard: list[Event] = []
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        channel = Channel(_answer, heard.append)
        await channel.start(ours)
        waiting = asyncio.ensure_future(channel.ask(AskStats()))
        loop = asyncio.get_running_loop()
        for line in lines:
            await loop.sock_sendall(theirs, line + b"\n")
        last = msgspec.json.encode(Envelope(0, event=Notice("last", str(number))))
        await loop.sock_sendall(theirs, last + b"\n")
        async with asyncio.timeout(10):
            while not channel.closed.is_set() and not any(isinstance(e, Notice) and e.error == str(number) for e in heard):
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
        theirs.close()
        async with asyncio.timeout(10):
            await channel.closed.wait()
            outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
        assert not isinstance(outcome, TimeoutError)
        channel.close()
        await asyncio.sleep(0)
        assert faults == []

    asyncio.run(talk())


async def test_a_line_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.node.channel._MAX_LINE_BYTES", 1 << 16)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    channel = Channel(_answer, lambda _: None)
    await channel.start(ours)
    waiting = asyncio.ensure_future(channel.ask(AskStats()))
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(theirs, b'"' + b"x" * (1 << 18))
    async with asyncio.timeout(10):
        await channel.closed.wait()
        with pytest.raises(Unavailable):
            await waiting
    theirs.close()
    channel.close()


def test_random_batches_in_truncated_form_are_no_batches() -> None:
    whole = msgspec.msgpack.encode(Batch(Group(TAG), touched=("a",), created=(Created("b", 1),)))
    for cut in range(len(whole)):
        with pytest.raises(msgspec.DecodeError):
            msgspec.msgpack.decode(whole[:cut], type=Batch)


@pytest.mark.parametrize(
    "line",
    [b"[" * 20_000, b'{"id":1,"request":{"type":"TryMount","spec":{"path":"/a","union":[' + b'{"path":"/a","union":[' * 9000],
)
async def test_a_line_nested_deeply_ends_the_channel(line: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    channel = Channel(_answer, lambda _: None)
    await channel.start(ours)
    waiting = asyncio.ensure_future(channel.ask(AskStats()))
    async with asyncio.timeout(10):
        await asyncio.get_running_loop().sock_sendall(theirs, line + b"\n")
        await channel.closed.wait()
        with pytest.raises(Unavailable):
            await waiting
    theirs.close()
    channel.close()
