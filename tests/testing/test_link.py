"""The link between real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from headrace.testing.link import Address, Flapping, Link, LinkSettings, LinkState

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
MBIT_200 = 25_000_000.0


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Address]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield host, port
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def sending(size: int) -> Handler:
    """Sends `size` bytes for each line that it reads."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        block = bytes(65536)
        while await reader.readline():
            for start in range(0, size, len(block)):
                writer.write(block[: min(len(block), size - start)])
                await writer.drain()

    return handler


async def fetch(address: Address, size: int) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"go\n")
    left = size
    while left:
        data = await reader.read(1 << 18)
        assert data, f"ended {left} bytes early"
        left -= len(data)
    writer.close()


@pytest.mark.parametrize("streams", [1, 4])
async def test_the_rate_is_reached_and_not_passed_by_one_and_by_four_streams(streams: int) -> None:
    size = 12_500_000 // streams
    async with serving(sending(size)) as target, Link(target, LinkSettings(rtt_s=0.04, rate=MBIT_200)) as link:
        started, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(fetch(link.address, size) for _ in range(streams)))
        seconds = time.monotonic() - started - 0.08
        assert link.stats().down_bytes == size * streams
        assert seconds >= 0.49
        assert seconds <= 0.525 + 0.2 * (time.process_time() - cpu), "the rate was not reached"


async def test_an_answer_on_a_fresh_connection_costs_two_round_trips_and_on_a_kept_one_costs_one() -> None:
    async with serving(echo) as target, Link(target, LinkSettings(rtt_s=0.1)) as link:
        started = time.monotonic()
        reader, writer = await asyncio.open_connection(*link.address)
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        fresh, started = time.monotonic() - started, time.monotonic()
        writer.write(b"pong")
        assert await reader.readexactly(4) == b"pong"
        kept = time.monotonic() - started
        writer.close()
    assert 0.2 <= fresh < 0.26
    assert 0.1 <= kept < 0.15


async def test_no_more_than_a_bounded_amount_is_taken_from_a_sender_whose_receiver_does_not_read() -> None:
    taken = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        end: socket.socket = writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            taken += 65536

    async with serving(pour) as target, Link(target, LinkSettings(rtt_s=0.02, rate=MBIT_200)) as link:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(link.address)
        before = -1
        while before != taken or not taken:
            before = taken
            await asyncio.sleep(0.4)
        client.close()
    assert taken < 12 << 20


async def test_the_end_of_one_direction_is_passed_on_while_the_other_goes_on() -> None:
    async def sum_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(b"%d" % len(data))
        await writer.drain()

    async with serving(sum_up) as target, Link(target, LinkSettings(rtt_s=0.01)) as link:
        reader, writer = await asyncio.open_connection(*link.address)
        writer.write(bytes(100_000))
        writer.write_eof()
        assert await reader.read() == b"100000"
        writer.close()
        async with asyncio.timeout(5):
            while link.stats().connections_open:
                await asyncio.sleep(0.01)


async def test_a_server_that_refuses_resets_the_client_after_a_round_trip() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with Link(closed.getsockname(), LinkSettings(rtt_s=0.05)) as link:
            started = time.monotonic()
            reader, writer = await asyncio.open_connection(*link.address)
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)
            assert time.monotonic() - started >= 0.05
            assert link.stats().failed_dials == 1
            writer.close()


async def test_refusing_refuses_on_the_same_port_and_resets_what_is_open() -> None:
    async with serving(echo) as target, Link(target) as link:
        reader, writer = await asyncio.open_connection(*link.address)
        writer.write(b"a")
        await reader.readexactly(1)
        link.set_state(LinkState.REFUSE)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*link.address)
        link.set_state(LinkState.UP)
        again, other = await asyncio.open_connection(*link.address)
        other.write(b"b")
        assert await again.readexactly(1) == b"b"
        assert link.stats().outages == 1
        writer.close()
        other.close()


async def test_resetting_accepts_and_resets() -> None:
    async with serving(echo) as target, Link(target) as link:
        link.set_state(LinkState.RESET)
        with pytest.raises(ConnectionError):
            reader, _ = await asyncio.open_connection(*link.address)
            await reader.readexactly(1)


async def test_in_a_black_hole_nothing_moves_and_nothing_is_lost() -> None:
    async with serving(echo) as target, Link(target, LinkSettings(rtt_s=0.01)) as link:
        reader, writer = await asyncio.open_connection(*link.address)
        writer.write(b"a")
        await reader.readexactly(1)
        link.set_state(LinkState.BLACKHOLE)
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        fresh, other = await asyncio.open_connection(*link.address)
        other.write(b"c")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fresh.readexactly(1), 0.2)
        link.set_state(LinkState.UP)
        async with asyncio.timeout(2):
            assert await reader.readexactly(1) == b"b"
            assert await fresh.readexactly(1) == b"c"
        writer.close()
        other.close()


def test_a_flapping_schedule_says_its_state_and_its_next_change() -> None:
    flapping = Flapping(30, 10, LinkState.REFUSE)
    assert [flapping.state_at(t) for t in (0, 29.9, 30, 39.9, 40)] == ["up", "up", "refuse", "refuse", "up"]
    assert [flapping.next_change(t) for t in (0, 29, 30, 39, 40)] == [30, 1, 10, 1, 30]


async def test_flapping_takes_the_link_down_and_up_by_itself() -> None:
    async with serving(echo) as target, Link(target) as link:
        task = asyncio.create_task(link.flap(Flapping(0.02, 0.02)))
        async with asyncio.timeout(5):
            while link.stats().outages < 3:
                await asyncio.sleep(0.005)
        task.cancel()
        assert link.stats().outages >= 3


async def test_aborted_and_finished_connections_leave_nothing_behind() -> None:
    async with serving(echo) as target, Link(target, LinkSettings(rtt_s=0.005, rate=MBIT_200)) as link:
        for number in range(40):
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(bytes(1000))
            if number % 2:
                await reader.readexactly(1000)
                writer.close()
            else:
                writer.transport.abort()
        async with asyncio.timeout(5):
            while link.stats().connections_open:
                await asyncio.sleep(0.01)
        assert link.stats().connections_total == 40
        assert not link._flows
        assert link._up.next_at() is None or link._down.next_at() is not None
