"""What the HDFS store asks of a cluster: one narrow contract, whatever protocol speaks it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator

from headrace.model.errors import AccessDenied, Conflict, HeadraceError, InvalidKey, NoSpace, NotFound, Unsupported
from headrace.model.reading import Buffer
from headrace.stores.tree_listing import FileStatus

REFUSALS: dict[str, type[HeadraceError]] = {
    "FileNotFoundException": NotFound,
    "AccessControlException": AccessDenied,
    "SecurityException": AccessDenied,
    "AuthorizationException": AccessDenied,
    "InvalidToken": AccessDenied,
    "FileAlreadyExistsException": Conflict,
    "PathIsNotEmptyDirectoryException": Conflict,
    "AlreadyBeingCreatedException": Conflict,
    "ParentNotDirectoryException": InvalidKey,
    "InvalidPathException": InvalidKey,
    "PathComponentTooLongException": InvalidKey,
    "MaxDirectoryItemsExceededException": NoSpace,
    "DSQuotaExceededException": NoSpace,
    "NSQuotaExceededException": NoSpace,
    "UnsupportedOperationException": Unsupported,
}
"""What the exceptions of Hadoop mean, by the last part of their names; others mean that it could not be done now."""


class FileBytes(ABC):
    """Bytes of a file on their way. The iteration raises rather than end early."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, once."""

    @abstractmethod
    def close(self) -> None:
        """Give up the rest. May be called more than once."""


class HdfsClient(ABC):
    """Paths are whole, begin with a slash and are valid names of HDFS. Verbs raise only `HeadraceError`s.

    `NotFound` means that the NameNode said so. `InvalidKey` means that a file lies where a directory is needed, or the
    other way round.
    """

    @abstractmethod
    async def status(self, path: str) -> FileStatus:
        """Raises `NotFound`."""

    @abstractmethod
    async def children(self, path: str, after: str = "") -> tuple[list[FileStatus], bool]:
        """Entries of a directory behind the name `after` in the NameNode's own order, and whether more follow."""

    @abstractmethod
    async def open(self, path: str, start: int, length: int) -> FileBytes:
        """Bytes of a file. Raises `NotFound`."""

    @abstractmethod
    async def create(self, path: str, pieces: AsyncIterable[Buffer], length: int) -> None:
        """Make a file of `length` bytes, and its directories. Raises `Conflict` when there is one, and what `pieces` raises."""

    @abstractmethod
    async def append(self, path: str, data: Buffer) -> None:
        """Add to the end of a file."""

    @abstractmethod
    async def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        """Move a file in one step. Raises `Conflict` when there is a target and `overwrite` is false, `NotFound` when the
        source or the target's directory is not there."""

    @abstractmethod
    async def make_directories(self, path: str) -> None:
        """Make a directory and those above it; that it is there is no error."""

    @abstractmethod
    async def delete(self, path: str) -> bool:
        """Remove a file, or a directory that is empty; whether anything was removed. Raises `Conflict` for one that is not."""

    @abstractmethod
    async def close(self) -> None:
        """Free connections. May be called more than once."""
