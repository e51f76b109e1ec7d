"""A small signing S3 client for timing: one aiohttp session, one connection for each task at a time."""

from __future__ import annotations

from types import TracebackType

import aiohttp
from yarl import URL

from load import signed
from peers import Peer


class Client:
    """GETs whole objects or ranges of one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=600))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def get(self, path: str, span: tuple[int, int] | None = None) -> bytes:
        async with self._open(path, span) as answer:
            return await answer.read()

    async def drain(self, path: str) -> int:
        """Bytes of a whole object, read and dropped."""
        size = 0
        async with self._open(path, None) as answer:
            async for piece in answer.content.iter_any():
                size += len(piece)
        return size

    def _open(self, path: str, span: tuple[int, int] | None) -> aiohttp.client._RequestContextManager:
        headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        full = self._peer.prefix + path
        return self._session.get(
            URL(self._peer.url + full, encoded=True), headers=signed(self._peer, full, headers), raise_for_status=True
        )


async def get(peer: Peer, path: str) -> int:
    """Bytes of one whole object over a connection of its own."""
    async with Client(peer) as client:
        return await client.drain(path)
