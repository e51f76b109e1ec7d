"""Connections to the origins of one mount: made under its address rule, kept for a while, bounded in number."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest

import msgspec

from headrace.stores.guard import AddressGuard, AddressInfo, GuardedResolver
from headrace.stores.http_connection import Connection

_DNS_KEPT_S = 30.0
_NEXT_ADDRESS_S = 0.25
_CLOSE_S = 1.0


class Origin(msgspec.Struct, frozen=True):
    """Where requests go: `host` is without brackets, `authority` is the `host` header."""

    is_tls: bool
    host: str
    port: int
    authority: str

    @property
    def url(self) -> str:
        """As it is written before a path."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"


class ConnectFailed(OSError):
    """No address of a host could be connected to. `cause` is what the last of them said."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ConnectionPool:
    """At most `limit` connections. Whoever comes when all are busy waits until one is free."""

    def __init__(self, guard: AddressGuard, *, limit: int, connect_timeout_s: float, patience_s: float) -> None:
        self._guard = guard
        self._resolver = GuardedResolver(guard, connect_timeout_s)
        self._limit = limit
        self._connect_timeout_s = connect_timeout_s
        self._patience_s = patience_s
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: dict[Connection, Origin] = {}
        self._connecting = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._addresses: dict[Origin, tuple[float, list[AddressInfo]]] = {}
        self._lookups: dict[Origin, asyncio.Future[list[AddressInfo]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._emptied = asyncio.Event()

    async def acquire(self, origin: Origin, *, is_new: bool = False) -> Connection:
        """A connection for one exchange, a kept one unless `is_new`. It comes back by itself.

        Raises `OSError` and `TimeoutError`.
        """
        while True:
            idle = self._idle.get(origin)
            while idle and not is_new:
                connection = idle.pop()
                if connection.is_usable:
                    return connection
                connection.abort()
            if len(self._open) + self._connecting < self._limit:
                return await self._connect(origin)
            if not self._drop_idle():
                await self._wait()

    async def close(self) -> None:
        """End all connections. The pool may be used again."""
        self._idle.clear()
        if self._open:
            self._emptied = asyncio.Event()
            for connection in tuple(self._open):
                connection.abort()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), _CLOSE_S)

    async def _connect(self, origin: Origin) -> Connection:
        self._connecting += 1
        try:
            addresses = await self._resolved(origin)
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    sock = await self._first_connected(addresses)
                    connection = await self._opened(origin, sock)
            except TimeoutError:
                raise TimeoutError(f"no connection within {self._connect_timeout_s:g} s") from None
            except OSError:
                self._addresses.pop(origin, None)  # perhaps it has moved
                raise
            self._open[connection] = origin
        finally:
            self._connecting -= 1
            if len(self._open) + self._connecting < self._limit:
                self._wake()
        return connection

    async def _resolved(self, origin: Origin) -> list[AddressInfo]:
        now = asyncio.get_running_loop().time()
        until, found = self._addresses.get(origin, (0.0, []))
        if now < until:
            return found
        lookup = self._lookups.get(origin)
        if lookup is None:
            lookup = self._lookups[origin] = asyncio.ensure_future(self._resolver.resolve(origin.host, origin.port))
            lookup.add_done_callback(lambda done: self._found(origin, done))
        return _alternating(await asyncio.shield(lookup))

    def _found(self, origin: Origin, lookup: asyncio.Future[list[AddressInfo]]) -> None:
        del self._lookups[origin]
        if not lookup.cancelled() and lookup.exception() is None:
            now = asyncio.get_running_loop().time()
            self._addresses = {other: kept for other, kept in self._addresses.items() if now < kept[0]}
            self._addresses[origin] = (now + _DNS_KEPT_S, _alternating(lookup.result()))

    async def _first_connected(self, addresses: Sequence[AddressInfo]) -> socket.socket:
        """A socket to the first address that answers; each next one is tried too when the one before it takes long or fails."""
        tries: set[asyncio.Task[socket.socket]] = set()
        failure: Exception | None = None
        try:
            for number, address in enumerate(addresses, 1):
                tries.add(asyncio.ensure_future(self._try(address)))
                while tries:
                    patience_s = _NEXT_ADDRESS_S if number < len(addresses) else None
                    done, tries = await asyncio.wait(tries, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                    good = [task for task in done if task.exception() is None]
                    if good:
                        for task in good[1:]:
                            task.result().close()
                        return good[0].result()
                    failure = next((error for task in done if isinstance(error := task.exception(), Exception)), failure)
                    if number < len(addresses):
                        break
        finally:
            for task in tries:
                task.add_done_callback(_close_late)
                task.cancel()
        raise ConnectFailed(failure or OSError("no address"))

    async def _try(self, address: AddressInfo) -> socket.socket:
        sock = self._guard.open_socket(address)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address[4])
        except BaseException:  # whatever it is: tidied up here, raised on
            sock.close()
            raise
        return sock

    async def _opened(self, origin: Origin, sock: socket.socket) -> Connection:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._patience_s, self._freed, self._lost),
                sock=sock,
                ssl=self._tls_context() if origin.is_tls else None,
                server_hostname=origin.host if origin.is_tls else None,
            )
        except BaseException:  # whatever it is: tidied up here, raised on
            sock.close()
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        """The system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR. Read once: it takes tens of milliseconds."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _freed(self, connection: Connection) -> None:
        origin = self._open.get(connection)
        if origin is not None:
            self._idle.setdefault(origin, []).append(connection)
            self._wake()

    def _lost(self, connection: Connection) -> None:
        origin = self._open.pop(connection, None)
        idle = self._idle.get(origin) if origin is not None else None
        if idle is not None and connection in idle:
            idle.remove(connection)
        if idle == [] and origin is not None:
            del self._idle[origin]
        if not self._open:
            self._emptied.set()
        self._wake()

    def _drop_idle(self) -> bool:
        """Make room by ending a connection that nobody uses. False when there is none."""
        for idle in self._idle.values():
            if idle:
                connection = idle.pop(0)
                self._open.pop(connection, None)
                connection.abort()
                return True
        return False

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # the turn was given to nobody
            raise

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _alternating(addresses: list[AddressInfo]) -> list[AddressInfo]:
    """The same, with the families in turn, so that one that leads nowhere does not hold up the other."""
    first = [info for info in addresses if info[0] == addresses[0][0]]
    second = [info for info in addresses if info[0] != addresses[0][0]]
    return [info for pair in zip_longest(first, second) for info in pair if info is not None]


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
