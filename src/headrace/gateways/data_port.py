"""The data port: S3 at its root, WebHDFS under `/webhdfs/v1`, told apart by what only the one of them says."""

from __future__ import annotations

import socket

from headrace.gateways.http.messages import Glanced, Request, Response
from headrace.gateways.http.server import HttpServer
from headrace.gateways.s3.forms import SignedForm
from headrace.gateways.s3.server import S3Gateway, Server
from headrace.gateways.webhdfs.asked import is_webhdfs
from headrace.gateways.webhdfs.server import Noted, WebHdfsGateway

_BEGINNING = b"/webhdfs/"


class DataPort:
    """Both gateways as one `Handler` of the HTTP engine. They are counted together."""

    def __init__(self, s3: S3Gateway, webhdfs: WebHdfsGateway) -> None:
        self._s3 = s3
        self._webhdfs = webhdfs
        self._tally = s3.tally

    def quick(self, request: Request) -> Response | None:
        """`Handler.quick`."""
        if request.path.startswith(_BEGINNING) and is_webhdfs(request.path, request.query):
            return self._webhdfs.quick(request, self._tally)
        return self._s3.quick(request)

    def form(self, request: Request, head: bytes) -> SignedForm | None:
        """`Handler.form`."""
        return None if isinstance(request.note, Noted) else self._s3.form(request, head)

    def glance(self, form: object, head: bytes, date_line: bytes) -> Glanced:
        """`Handler.glance`."""
        return self._s3.glance(form, head, date_line)

    async def handle(self, request: Request) -> Response:
        """`Handler.handle`."""
        if request.path.startswith(_BEGINNING) and is_webhdfs(request.path, request.query):
            return await self._webhdfs.handle(request, self._tally)
        return await self._s3.handle(request)

    def refuse(self, status: int, reason: str, peer: str) -> Response:
        """`Handler.refuse`."""
        return self._s3.refuse(status, reason, peer)

    def failed(self, request: Request, error: Exception) -> None:
        """`Handler.failed`."""
        (self._webhdfs if isinstance(request.note, Noted) else self._s3).failed(request, error)

    def finished(self, request: Request, response: Response, sent: int, *, complete: bool) -> None:
        """`Handler.finished`."""
        if not isinstance(request.note, Noted):
            self._s3.finished(request, response, sent, complete=complete)
            return
        if not complete:
            self._tally.cut_short += 1
        self._webhdfs.finished(request, response, self._tally, sent=sent)


async def serve(s3: S3Gateway, webhdfs: WebHdfsGateway, sock: socket.socket) -> Server:
    """Accept clients on `sock`, which is bound to its address already."""
    http = HttpServer(DataPort(s3, webhdfs), s3.settings, s3.clock)
    await http.start(sock)
    return Server(s3, http)
