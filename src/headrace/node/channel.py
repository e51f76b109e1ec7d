"""Messages over a socket pair, one JSON line each: requests with replies, and events."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import msgspec

from headrace.model.errors import DeadlineExceeded, HeadraceError, Unavailable, Unsupported, error_named
from headrace.node.messages import Envelope, Event, Failed, Reply, Request

_MAX_LINE_BYTES = 32 << 20
_MAX_OPEN_REQUESTS = 4096

_log = logging.getLogger("headrace.channel")

Handler = Callable[[Request], Awaitable[Reply]]
Listener = Callable[[Event], None]


class Channel:
    """One end of the pair. Both ends may ask; `on_request` answers, `on_event` hears.

    Every request that is open when the other end goes away fails with `Unavailable`.
    """

    def __init__(self, on_request: Handler, on_event: Listener) -> None:
        self._on_request = on_request
        self._on_event = on_event
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Envelope)
        self._open: dict[int, asyncio.Future[Reply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._next_id = 1
        self.closed = asyncio.Event()

    async def start(self, sock: socket.socket) -> None:
        """Begin to read; `closed` is set when the other end is gone."""
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=_MAX_LINE_BYTES + 1)
        self._spawn(self._read(reader))

    async def ask(self, request: Request, *, timeout_s: float | None = None) -> Reply:
        """Send and wait for the reply. A `Failed` reply is raised as the error that it names.

        Raises `Unavailable`, `DeadlineExceeded`, or `Unsupported` for a request that is too long to send.
        """
        if self._writer is None or self.closed.is_set() or len(self._open) >= _MAX_OPEN_REQUESTS:
            raise Unavailable("the process at the other end of the channel is not there or has too much to do: try again")
        number = self._next_id
        line = self._line(Envelope(number, request=request))
        self._next_id += 1
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._open[number] = future
        try:
            self._send(line)
            reply = await asyncio.wait_for(future, timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer to {type(request).__name__} within {timeout_s} s") from error
        finally:
            self._open.pop(number, None)
        if isinstance(reply, Failed):
            raise revive(reply)
        return reply

    def tell(self, event: Event) -> None:
        """Send an event; dropped when the other end reads too slowly or is gone."""
        writer = self._writer
        if writer is None or self.closed.is_set() or writer.transport.get_write_buffer_size() > _MAX_LINE_BYTES:
            return
        self._send(self._line(Envelope(0, event=event)))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        for task in self._tasks:
            task.cancel()
        self._fail_open()
        self.closed.set()

    def _line(self, envelope: Envelope) -> bytes:
        """One line. Refused here when it is too long: at the other end it would cost the whole channel."""
        line = self._encoder.encode(envelope)
        if len(line) >= _MAX_LINE_BYTES:
            raise Unsupported(
                f"a message of {len(line):,} bytes is longer than the {_MAX_LINE_BYTES:,} that go from process to process:"
                " write fewer mounts or rules, or ask for less at once"
            )
        return line + b"\n"

    def _send(self, line: bytes) -> None:
        if self._writer is not None and not self.closed.is_set():
            self._writer.write(line)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._dispatch(self._decoder.decode(line))
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            _log.warning("channel ends: %s", error)
        finally:
            self._fail_open()
            self.closed.set()
            # The other end must learn of it too, else it would go on serving with nobody to tell it of changes.
            if self._writer is not None:
                self._writer.close()

    def _dispatch(self, envelope: Envelope) -> None:
        if envelope.request is not None:
            self._spawn(self._answer(envelope.id, envelope.request))
        elif envelope.reply is not None:
            future = self._open.get(envelope.id)
            if future is not None and not future.done():
                future.set_result(envelope.reply)
        elif envelope.event is not None:
            self._on_event(envelope.event)

    async def _answer(self, number: int, request: Request) -> None:
        try:
            reply = await self._on_request(request)
        except HeadraceError as error:
            reply = Failed(type(error).__name__, str(error), error.path)
        except Exception as error:  # noqa: BLE001  a fault of one request must not end the channel
            _log.exception("request %s failed", type(request).__name__)
            reply = Failed("Unavailable", f"{type(error).__name__}: {error}")
        try:
            line = self._line(Envelope(number, reply=reply))
        except Unsupported as error:
            line = self._line(Envelope(number, reply=Failed("Unsupported", str(error))))
        self._send(line)

    def _fail_open(self) -> None:
        for future in self._open.values():
            if not future.done():
                future.set_exception(Unavailable("the process that was asked has ended: try again"))


def revive(failed: Failed) -> HeadraceError:
    """The error that the other process raised, as one of ours."""
    return (error_named(failed.kind) or Unavailable)(failed.message, path=failed.path)
