"""One client connection: requests in, answers out, strictly in order, everything bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from headrace.gateways.http.body import IncomingBody
from headrace.gateways.http.head import NO_BODY, HeadParser, body_length, keeps_alive
from headrace.gateways.http.messages import BadFraming, Begun, Chunks, Handler, Request, Response
from headrace.gateways.http.pump import Pump
from headrace.gateways.http.wire import CONTINUE, response_head
from headrace.model.reading import Reading

if TYPE_CHECKING:
    from headrace.gateways.http.server import HttpServer


_CLIENT_LEFT = 499


# What a connection is doing; decides which deadline holds. Plain numbers: this is looked at many times per request.
IDLE, HEAD, BUSY, LINGER, CLOSED = range(5)


class Connection(asyncio.Protocol):
    """Parses one request at a time. Bytes behind it wait, and beyond a bound are not read at all."""

    __slots__ = (
        "_body", "_buffer", "_close_after", "_deadline_s", "_eof", "_flowing", "_form", "_form_bytes", "_handler", "_parser",
        "_request", "_response", "_scanned", "_server", "_task", "_watched", "local", "peer", "phase", "pump", "transport",
    )  # fmt: skip

    def __init__(self, server: HttpServer, handler: Handler) -> None:
        self._server = server
        self._handler = handler
        self._parser = HeadParser(server.settings.max_headers)
        self._buffer = b""
        self._form: object | None = None
        self._form_bytes = min(server.settings.max_head_bytes, server.settings.max_target_bytes)
        self._scanned = 0
        self._body: IncomingBody | None = None
        self._request: Request | None = None
        self._response: Response | None = None
        self._task: asyncio.Task[None] | None = None
        self._eof = False
        self._flowing = True
        self._close_after = False
        self._deadline_s = server.now_s + server.settings.idle_timeout_s
        self._watched: tuple[float, int] | None = None
        self.phase = IDLE
        self.peer = ""
        self.local = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.pump = Pump(self.transport, self._server.loop, self._answered_late, self._server.outlets)
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "")
        own = transport.get_extra_info("sockname")
        self.local = (f"[{own[0]}]:{own[1]}" if ":" in own[0] else f"{own[0]}:{own[1]}") if isinstance(own, tuple) else ""
        if not self._server.admit(self):
            self._refuse(503, "too many connections")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self.phase = CLOSED
        self._buffer = b""
        if self._body is not None:
            self._body.fail(BadFraming(400, "the client went away"))
        self.pump.lost()
        if self._task is not None:
            self._task.cancel()
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._form is not None and self.phase == IDLE and not self._buffer and self._glance(data):
            return
        if (self._close_after and self._body is None) or self.phase == LINGER:
            return
        if self._body is not None:
            data = self._feed_body(data)
        if self._buffer:
            self._buffer += data
        elif self.phase == IDLE and data.find(b"\r\n\r\n") == len(data) - 4 and len(data) > 4 and not self.pump.paused:
            self._serve_whole(data)
            return
        else:
            self._buffer = data
        if self.phase != BUSY:
            self._advance()
        elif len(self._buffer) > self._server.settings.max_head_bytes:
            self._flow(False)

    def _glance(self, data: bytes) -> bool:
        """Answer a head like one that came before; False when it must be read the long way."""
        if self._close_after or self.pump.paused or len(data) > self._form_bytes:
            return False
        seen = self._handler.glance(self._form, data, self._server.date_line)
        if seen is None:
            self._form = None
            return False
        if type(seen) is tuple:
            self.pump.put(*seen)
            self._deadline_s = self._server.idle_until_s
            self._watched = None
            return True
        if isinstance(seen, Begun):
            seen.request.peer = self.peer
            self._request = seen.request
            self.phase = BUSY
            self._respond(seen.request, seen.response)
        return True

    def eof_received(self) -> bool:
        """A client may close its half and still wait for answers to what it has sent."""
        self._eof = True
        if self._body is not None and not self._body.done:
            self._body.fail(BadFraming(400, "the body ended early"))
        return self.phase == BUSY or (self.pump.paused and bool(self._buffer))

    def pause_writing(self) -> None:
        self.pump.paused = True

    def resume_writing(self) -> None:
        self.pump.paused = False
        self.pump.resume()
        if self.phase != BUSY:
            self._advance()

    def shutdown(self) -> None:
        """Take no further request: close now if none is running, else behind its answer."""
        if self.phase == BUSY:
            self._close_after = True
        elif self.phase != LINGER:
            self._close()

    def abort(self) -> None:
        """End the connection at once, so that no half body can look whole."""
        self._close_after = True
        if self.phase != CLOSED and not self.transport.is_closing():
            self.pump.reset_on_close()
        self.transport.abort()

    def check(self, now_s: float) -> None:
        """Called at every sweep: cut whoever is over a deadline or under the floor."""
        if self.phase == BUSY or self.transport.get_write_buffer_size():
            self._check_progress(now_s)
        elif now_s >= self._deadline_s:
            if self.phase == HEAD:
                self._refuse(408, "the request's head did not arrive in time")
            else:
                self.transport.abort()

    def _check_progress(self, now_s: float) -> None:
        body = self._body
        if self.pump.blocked():
            moved = self.pump.moved()
        elif body is not None and body.starved:
            moved = body.received
        else:
            self._watched = None
            return
        settings = self._server.settings
        if self._watched is None:
            self._watched = (now_s, moved)
        elif now_s - self._watched[0] >= settings.floor_window_s:
            if moved - self._watched[1] < settings.floor_bytes_per_s * settings.floor_window_s:
                self._server.cut_slow += 1
                if body is not None and body.starved:
                    body.fail(BadFraming(408, "the body did not arrive in time"))
                else:
                    self.abort()
            self._watched = (now_s, moved)

    def _advance(self) -> None:
        """Serve what is complete in the buffer, one request after another."""
        while self._buffer and not self.pump.paused and not self._close_after:
            end = self._buffer.find(b"\r\n\r\n", self._scanned)
            if end < 0 or end > self._server.settings.max_head_bytes:
                self._await_head(end)
                return
            head, self._buffer, self._scanned = self._buffer[: end + 4], self._buffer[end + 4 :], 0
            try:
                self._start(head)
            except BadFraming as error:
                self._refuse(error.status, error.reason)
                return
            if self.phase == BUSY:
                return
        if self._eof and self.phase != BUSY and not self.pump.paused:
            self._close()

    def _serve_whole(self, head: bytes) -> None:
        """What nearly always comes: exactly one head."""
        if len(head) > self._server.settings.max_head_bytes:
            self._buffer = head
            self._advance()
            return
        try:
            self._start(head)
        except BadFraming as error:
            self._refuse(error.status, error.reason)

    def _await_head(self, end: int) -> None:
        settings = self._server.settings
        size = len(self._buffer)
        if size > settings.max_target_bytes + 64 and b"\n" not in self._buffer[: settings.max_target_bytes + 64]:
            self._refuse(414, f"the request line is longer than {settings.max_target_bytes} bytes")
        elif size > settings.max_head_bytes or end >= 0:
            self._refuse(431, f"the headers are longer than {settings.max_head_bytes} bytes")
        elif self._buffer.count(b"\n") != self._buffer.count(b"\r\n"):
            self._refuse(400, "a line does not end with CR LF")
        elif self._eof:
            self._close()
        else:
            self._scanned = max(size - 3, 0)
            if self.phase == IDLE:
                self.phase = HEAD
                self._deadline_s = self._server.now_s + settings.head_timeout_s

    def _start(self, head: bytes) -> None:
        request = self._parser.parse(head, self.peer)
        headers = request.headers
        limit = self._server.settings.max_target_bytes
        if len(head) > limit and len(request.path) + len(request.query) >= limit:
            raise BadFraming(414, f"the request's target is longer than {limit} bytes")
        length = body_length(request) if b"content-length" in headers or b"transfer-encoding" in headers else NO_BODY
        if b"connection" in headers:
            request.keep_alive = keeps_alive(request)
        request.started_s = self._server.clock.monotonic()
        request.local = self.local
        self.phase = BUSY
        self._request = request
        if length == NO_BODY:
            if b"expect" in headers and b"content-length" in headers and request.http11:
                # Nothing will follow, but without this word AWS's SDK for Python misreads the next answer on its connection.
                self.transport.write(CONTINUE)
            response = self._handler.quick(request)
            if response is not None:
                self._form = self._handler.form(request, head)
                self._respond(request, response)
                return
        else:
            self._parser.expect_head()
            self._expect_body(request, length)
        self._task = self._server.loop.create_task(self._handle(request))

    def _expect_body(self, request: Request, length: int) -> None:
        wish = request.headers.get(b"expect")
        if wish is not None and wish.strip(b" \t").lower() != b"100-continue":
            raise BadFraming(417, "the only expectation is 100-continue")
        waits = wish is not None and request.http11
        body = IncomingBody(
            length, max(self._server.settings.max_body_bytes, 0), self._send_continue if waits else _nothing, self._flow
        )
        request.body = self._body = body
        data, self._buffer = self._buffer, b""
        if data:
            body.started = True
            self._buffer = self._feed_body(data)

    def _feed_body(self, data: bytes) -> bytes:
        body = self._body
        if body is None or body.done:
            return data
        try:
            return body.feed(data)
        except BadFraming as error:
            self._close_after = True
            body.fail(error)
            return b""

    def _send_continue(self) -> None:
        if self.phase == BUSY and self._response is None:
            self.transport.write(CONTINUE)

    def _flow(self, wanted: bool) -> None:
        if wanted != self._flowing and not self.transport.is_closing():
            self._flowing = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    async def _handle(self, request: Request) -> None:
        try:
            response = await self._handler.handle(request)
        except asyncio.CancelledError:
            self._handler.finished(request, Response(_CLIENT_LEFT), 0, complete=False)
            raise
        if self.phase == CLOSED:
            if isinstance(response.body, Reading | Chunks):
                await response.body.aclose()
            self._handler.finished(request, response, 0, complete=False)
            return
        self._respond(request, response)
        if self.pump.streaming is not None:
            await self.pump.stream()
        elif isinstance(response.body, Reading) and request.method == b"HEAD":
            await response.body.aclose()
        if self.phase == IDLE:
            self._advance()

    def _respond(self, request: Request, response: Response) -> None:
        """Begin the answer, and end the request when all of it was handed on at once."""
        body = self._body
        if response.close or not request.keep_alive or self._server.draining or (body is not None and not body.done):
            self._close_after = True
        if isinstance(response.body, Chunks) and not request.http11:
            response.body.framed = False
            self._close_after = True
        head = response_head(request, response, self._server.date_line, self._close_after)
        self._response = response
        if self.pump.begin(head, response.body if request.method != b"HEAD" else b""):
            self._answered(request, response)

    def _answered(self, request: Request, response: Response) -> None:
        """All of the answer has been handed to the kernel or the transport."""
        self._request = self._response = self._task = self._watched = None
        self._handler.finished(request, response, self.pump.body_sent, complete=True)
        if self.phase == CLOSED:
            return
        self._deadline_s = self._server.idle_until_s
        self.phase = IDLE
        body, self._body = self._body, None
        if self._close_after:
            self._hang_up(linger=body is not None and not body.done)
        elif not self._flowing:
            self._flow(True)

    def _answered_late(self, complete: bool) -> None:
        """The pump is done with an answer that it could not end at once."""
        request, response = self._request, self._response
        if request is None or response is None:
            return
        if complete:
            self._answered(request, response)
            if self.phase == IDLE:
                self._advance()
            return
        self._request = self._response = self._task = None
        if self.pump.failure is not None:
            self._handler.failed(request, self.pump.failure)
        self._handler.finished(request, response, self.pump.body_sent, complete=False)
        self.abort()

    def _refuse(self, status: int, reason: str) -> None:
        self._close_after = True
        self._buffer = b""
        response = self._handler.refuse(status, reason, self.peer)
        self.transport.write(response_head(None, response, self._server.date_line, True) + _whole(response))
        self._body = None
        self._hang_up(linger=True)

    def _hang_up(self, *, linger: bool) -> None:
        """Close behind the last answer. Unread bytes are taken in for a moment: closing on them would reset the answer."""
        if self.transport.is_closing():
            return
        if not linger or self._eof:
            self._close()
            return
        self.phase = LINGER
        self._buffer = b""
        self._deadline_s = self._server.now_s + self._server.settings.linger_s
        self._flow(True)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _close(self) -> None:
        self._close_after = True
        if self.phase != CLOSED:
            self.phase = LINGER
            self._deadline_s = self._server.now_s + self._server.settings.linger_s
        self.transport.close()


def _whole(response: Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""


def _nothing() -> None:
    """A body without `Expect` needs no word from us."""
