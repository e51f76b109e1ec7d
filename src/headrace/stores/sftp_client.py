"""One SSH connection with an SFTP session: made when needed, to an allowed address whose host key is known."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from headrace.model.errors import (
    AccessDenied,
    Conflict,
    HeadraceError,
    InvalidKey,
    NoSpace,
    NotFound,
    Unavailable,
    Unsupported,
)
from headrace.stores.guard import AddressGuard, AddressRefused, GuardedResolver
from headrace.stores.tree_listing import FileStatus

if TYPE_CHECKING:
    import asyncssh

_MAX_NAMES = 500_000
_DIRECTORY, _REGULAR, _LINK = 2, 1, 3
_KEEPALIVE_S = 15


class SftpPlace(msgspec.Struct, frozen=True):
    """Where a server is and who asks. repr shows no secret."""

    host: str
    port: int
    user: str
    password: str
    key_file: str
    known_hosts: str
    connect_timeout_s: float

    def __repr__(self) -> str:
        return f"SftpPlace({self.user}@{self.host}:{self.port})"


class SftpClient:
    """Paths are whole. Every verb raises only `HeadraceError`s; one that finds the connection lost is `Unavailable`."""

    def __init__(self, place: SftpPlace, guard: AddressGuard) -> None:
        self._place = place
        self._guard = guard
        self._connecting = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._session: asyncssh.SFTPClient | None = None

    async def status(self, path: str) -> FileStatus:
        """The file or directory at `path`, through links. Raises `NotFound`."""
        session = await self.session()
        with self.translated(path):
            return _status("", await session.stat(path.encode()))

    async def children(self, path: str, after: str = "") -> tuple[list[FileStatus], bool]:  # noqa: ARG002  it is told whole
        """Files and directories in `path`; names that are no UTF-8 are left out."""
        session = await self.session()
        found: list[FileStatus] = []
        with self.translated(path):
            async for entry in session.scandir(path.encode()):
                name = _decoded(entry.filename)
                if not name or name in (".", ".."):
                    continue
                attributes = entry.attrs
                if attributes.type == _LINK:
                    try:
                        found.append(_status(name, await session.stat(f"{path}/{name}".encode())))
                    except self._missing():
                        continue  # it leads nowhere
                elif attributes.type in (_DIRECTORY, _REGULAR):
                    found.append(_status(name, attributes))
                if len(found) > _MAX_NAMES:
                    raise Unsupported(f"{path!r}: more than {_MAX_NAMES} names in one directory: mount those below it", path=path)
        return found, False

    async def open(self, path: str, mode: str) -> asyncssh.SFTPClientFile:
        """An open file: `rb`, or `xb` for a new one. Raises `NotFound`."""
        session = await self.session()
        with self.translated(path):
            return await session.open(path.encode(), mode)

    async def stamp(self, path: str, modified_s: int) -> None:
        """Set the time of the last change."""
        session = await self.session()
        with self.translated(path):
            await session.utime(path.encode(), (modified_s, modified_s))

    async def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        """Move a file in one step. Raises `Conflict` where there is a target and `overwrite` is false."""
        import asyncssh  # noqa: PLC0415  an extra

        session = await self.session()
        with self.translated(target):
            if overwrite:
                await session.posix_rename(source.encode(), target.encode())
                return
            try:
                await session.rename(source.encode(), target.encode())
            except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists) as error:
                if await session.exists(target.encode()):
                    raise Conflict(f"{target!r} is there already", path=target) from error
                raise

    async def make_directories(self, path: str) -> None:
        """Make a directory and those above it.

        Raises `InvalidKey` where a file lies in the way, and `NotFound` when another removes one of them meanwhile.
        """
        import asyncssh  # noqa: PLC0415  an extra

        session = await self.session()
        with self.translated(path):
            try:
                await session.makedirs(path.encode(), exist_ok=True)
                return
            except (asyncssh.SFTPFailure, asyncssh.SFTPNoSuchFile, asyncssh.SFTPNotADirectory) as error:
                failed = error
        segments = path.split("/")
        for count in range(2, len(segments) + 1):
            above = "/".join(segments[:count])
            if (await self.status(above)).is_file:
                raise InvalidKey(f"{path!r}: a file lies where a directory is needed", path=path) from failed
        raise NotFound(f"{path!r}: removed while it was made", path=path) from failed

    async def delete(self, path: str) -> None:
        """Remove a file. Raises `NotFound`."""
        session = await self.session()
        with self.translated(path):
            await session.remove(path.encode())

    async def delete_directory(self, path: str) -> None:
        """Remove an empty directory. Raises what the server says of any other."""
        session = await self.session()
        with self.translated(path):
            await session.rmdir(path.encode())

    async def close(self) -> None:
        """End the connection. May be called more than once."""
        connection, self._connection, self._session = self._connection, None, None
        if connection is not None:
            connection.close()
            await connection.wait_closed()

    async def session(self) -> asyncssh.SFTPClient:
        """The session; a lost connection is made anew."""
        async with self._connecting:
            if self._connection is not None and self._connection.is_closed():
                await self.close()
            if self._session is None:
                with self.translated(self._place.host):
                    self._connection = await asyncio.wait_for(self._connect(), self._place.connect_timeout_s)
                    self._session = await self._connection.start_sftp_client()
            return self._session

    async def _connect(self) -> asyncssh.SSHClientConnection:
        import asyncssh  # noqa: PLC0415  an extra

        place = self._place
        addresses = await GuardedResolver(self._guard, place.connect_timeout_s).resolve(place.host, place.port)
        failed: OSError | None = None
        for info in addresses:
            opened = self._guard.open_socket(info)
            opened.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(opened, info[4])
            except OSError as error:
                opened.close()
                failed = error
                continue
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return await asyncssh.connect(
                place.host,
                place.port,
                sock=opened,
                config=None,
                known_hosts=place.known_hosts,
                username=place.user,
                password=place.password or None,
                client_keys=[place.key_file] if place.key_file else None,
                agent_path=None,
                keepalive_interval=_KEEPALIVE_S,
            )
        raise failed or OSError(f"{place.host} has no address")

    @contextlib.contextmanager
    def translated(self, path: str) -> Iterator[None]:
        """Foreign errors become ours."""
        import asyncssh  # noqa: PLC0415  an extra

        try:
            yield
        except HeadraceError:
            raise
        except (asyncssh.Error, OSError, TimeoutError, ValueError) as error:
            raise self._meaning(error, path) from error

    def _meaning(self, error: Exception, path: str) -> HeadraceError:
        import asyncssh  # noqa: PLC0415  an extra

        place = self._place
        where = f"sftp://{place.host}:{place.port}"
        line = str(error).partition("\n")[0].replace("\r", " ")
        if isinstance(error, AddressRefused):
            return AccessDenied(str(error), path=path)
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            remedy = f"compare it with its owner, then add it to {place.known_hosts}"
            return AccessDenied(f"{where}: the server's host key is not a known one ({line}): {remedy}", path=path)
        kinds: Sequence[tuple[tuple[type[Exception], ...], type[HeadraceError]]] = (
            (self._missing(), NotFound),
            ((asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect, asyncssh.PermissionDenied), AccessDenied),
            ((asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded), NoSpace),
            ((asyncssh.SFTPBadMessage, asyncssh.SFTPInvalidFilename), InvalidKey),
            ((asyncssh.SFTPOpUnsupported,), Unsupported),
        )
        for types, kind in kinds:
            if isinstance(error, types):
                return kind(f"{where}: {path!r}: {line or type(error).__name__}", path=path)
        if isinstance(error, TimeoutError):
            line = f"no connection within {place.connect_timeout_s:g} s"
        return Unavailable(f"{where}: {path!r}: {line or type(error).__name__}", path=path)

    @staticmethod
    def _missing() -> tuple[type[Exception], ...]:
        import asyncssh  # noqa: PLC0415  an extra

        return (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


def _status(name: str, attributes: asyncssh.SFTPAttrs) -> FileStatus:
    return FileStatus(name, attributes.type == _REGULAR, attributes.size or 0, int(attributes.mtime or 0) * 1000)


def _decoded(name: bytes | str) -> str:
    try:
        return name if isinstance(name, str) else name.decode()
    except UnicodeDecodeError:
        return ""
