"""The channel between supervisor and workers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from headrace.model.errors import DeadlineExceeded, NotFound, Unavailable, Unsupported
from headrace.model.objects import CommonPrefix, Listing
from headrace.node.channel import Channel
from headrace.node.messages import Amount, Audit, Done, Event, Free, Listed, Load, Reply, Request


async def pair(handler, events: list[Event]) -> tuple[Channel, Channel]:  # type: ignore[no-untyped-def]
    ours, theirs = socket.socketpair()
    asking, answering = Channel(handler, events.append), Channel(handler, lambda event: None)
    await asking.start(ours)
    await answering.start(theirs)
    return asking, answering


async def answer(request: Request) -> Reply:
    if isinstance(request, Load):
        if request.path == "/missing":
            raise NotFound("no such object", path="/missing")
        if request.path == "/slow":
            await asyncio.Event().wait()
        if request.path == "/bug":
            raise ZeroDivisionError
        return Amount(len(request.path))
    return Done()


async def test_replies_find_their_requests_whatever_their_order() -> None:
    asking, answering = await pair(answer, [])
    replies = await asyncio.gather(*(asking.ask(Load("/" + "x" * n)) for n in range(50)))
    assert [reply.bytes for reply in replies if isinstance(reply, Amount)] == list(range(1, 51))
    assert isinstance(await asking.ask(Free("/a", True)), Done)
    asking.close()
    answering.close()


async def test_an_error_arrives_as_the_error_it_was() -> None:
    asking, answering = await pair(answer, [])
    with pytest.raises(NotFound, match="no such object") as caught:
        await asking.ask(Load("/missing"))
    assert caught.value.path == "/missing"
    with pytest.raises(Unavailable, match="ZeroDivisionError"):
        await asking.ask(Load("/bug"))
    asking.close()
    answering.close()


async def test_open_requests_fail_when_the_other_end_goes_away() -> None:
    asking, answering = await pair(answer, [])
    waiting = asyncio.create_task(asking.ask(Load("/slow")))
    with pytest.raises(DeadlineExceeded):
        await asking.ask(Load("/slow"), timeout_s=0.01)
    answering.close()
    with pytest.raises(Unavailable, match="ended"):
        await waiting
    await asyncio.wait_for(asking.closed.wait(), 5)
    with pytest.raises(Unavailable):
        await asking.ask(Load("/x"))
    asking.close()


async def test_events_arrive_without_an_answer() -> None:
    heard: list[Event] = []
    asking, answering = await pair(answer, heard)
    answering.tell(Audit("bad signature", "anna", "GET", "/a", "127.0.0.1"))
    await answering.ask(Load("/x"))
    assert heard == [Audit("bad signature", "anna", "GET", "/a", "127.0.0.1")]
    asking.close()
    answering.close()


async def test_a_message_that_is_too_long_is_refused_and_the_channel_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.node.channel._MAX_LINE_BYTES", 2000)

    async def long_answer(request: Request) -> Reply:
        if isinstance(request, Load) and request.path == "/long":
            return Listed(Listing((CommonPrefix("x" * 3000),)))
        return Done()

    asking, answering = await pair(long_answer, [])
    with pytest.raises(Unsupported, match="longer"):
        await asking.ask(Load("/" + "x" * 3000))
    with pytest.raises(Unsupported, match="longer"):
        await asking.ask(Load("/long"))
    assert isinstance(await asking.ask(Load("/x")), Done)
    asking.close()
    answering.close()


async def test_what_is_no_message_ends_the_channel_at_both_ends() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(answer, lambda event: None)
    await channel.start(ours)
    theirs.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(theirs, b"no message\n")
    await asyncio.wait_for(channel.closed.wait(), 5)
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 10), 5) == b""
    channel.close()
    theirs.close()
