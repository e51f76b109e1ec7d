"""The verbs of fsspec that write: each is whole or not at all, and seen by the next call."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.compression import compr
from fsspec.core import get_compression

from headrace.gateways import changing, sending, writing
from headrace.model.errors import Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.writing import ALWAYS, Attributes, Condition
from headrace.namespace.namespace import Namespace
from headrace.session import Session, find_node
from headrace.settings import load_settings
from headrace.writefile import PackedWriting, TextWriting, WritingFile

_TEXT_OPTIONS = ("encoding", "errors", "newline")
_MODES = {"overwrite": ALWAYS, "create": writing.ABSENT}


def _condition(mode: str) -> Condition:
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r}: write 'overwrite' or 'create'")
    return _MODES[mode]


class WritingFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Writing through Headrace. Buckets are made where a mount allows it; directories need no making.

    Within a transaction what is written appears when it ends, one object after the other; removals and copies are at once.
    Signatures are fsspec's own: where one ends in `**kwargs`, callers pass what other filesystems take, and it is passed over.
    """

    session: Session

    def open(
        self,
        path: Any,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Any = None,
        compression: str | None = None,
        **options: Any,
    ) -> Any:
        """As fsspec's `open`; an exception inside `with` leaves nothing of a file that is written, be it packed or text."""
        if "r" in mode or not {"w", "a", "x"} & set(mode):
            return super().open(path, mode, block_size, cache_options, compression, **options)
        text = {name: options.pop(name) for name in _TEXT_OPTIONS if name in options}
        opened: Any = super().open(path, mode.replace("t", "").replace("b", "") + "b", block_size, cache_options, **options)
        packing = get_compression(self._strip_protocol(path), compression)
        if packing is not None:
            opened = PackedWriting(partial(compr[packing], mode="w"), opened)
        return opened if "b" in mode else TextWriting(opened, **text)

    def open_for_writing(self, path: str, mode: str, *, autocommit: bool) -> WritingFile:
        """A file at the stripped `path`. Raises `Unsupported` for modes other than `wb`, `xb`, `ab`, and `FileExistsError`."""
        if mode not in ("wb", "xb", "ab"):
            raise Unsupported(f"open {path} with mode {mode!r}: objects are written whole, with wb, xb or ab", path=path)
        if mode == "ab":
            return self.session.run(partial(_appended, path=path, autocommit=autocommit))
        begun = self.session.run(partial(writing.outgoing, path=path, condition=writing.ABSENT if mode == "xb" else ALWAYS))
        return WritingFile(begun, mode=mode, autocommit=autocommit)

    async def _pipe_file(self, path: str, value: Any, mode: str = "overwrite", **_: Any) -> None:
        inner = self._strip_protocol(path)
        condition = _condition(mode)
        if not self._intrans:
            await self.session.call(partial(writing.write_bytes, path=inner, data=value, condition=condition))
            return
        held = await self.session.call(partial(_held, path=inner, value=value, condition=condition))
        self.transaction.files.append(held)

    async def _put_file(
        self, lpath: Any, rpath: str, callback: Callback = DEFAULT_CALLBACK, mode: str = "overwrite", **_: Any
    ) -> None:
        source, inner = Path(os.fspath(lpath)), self._strip_protocol(rpath)
        if await asyncio.to_thread(source.is_dir):
            return
        attributes = Attributes(content_type=mimetypes.guess_type(source.name)[0] or "")
        callback.set_size((await asyncio.to_thread(source.stat)).st_size)

        async def work(namespace: Namespace) -> WritingFile | None:
            made = await writing.outgoing(namespace, inner, attributes, condition=_condition(mode))
            made.progress = callback.relative_update
            if self._intrans:
                await sending.send_file(made, source, hold=True)
                return WritingFile.sealed(made)
            await sending.send_file(made, source)
            await made.publish()
            return None

        held = await self.session.call(work)
        if held is not None:
            self.transaction.files.append(held)

    async def _cp_file(self, path1: str, path2: str, moved: list[ObjectInfo] | None = None, **_: Any) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == target or await self._isdir(source):
            return
        was, _made = await self.session.call(partial(changing.copy, source=source, target=target))
        if moved is not None:
            moved.append(was)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        """Copy, then remove exactly the versions that were copied, when all of them were."""
        sync(self.loop, self._mv, path1, path2, recursive, maxdepth)

    async def _mv(self, path1: Any, path2: Any, recursive: bool, maxdepth: int | None) -> None:
        moved: list[ObjectInfo] = []
        await self._copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise", moved=moved)
        if not moved and isinstance(path1, str) and not recursive and await self._isdir(path1):
            raise IsADirectoryError(f"{path1} is a directory: move it with recursive=True")
        await self.session.call(partial(changing.remove_versions, objects=moved))

    async def _mv_file(self, path1: str, path2: str) -> None:
        await self._mv(path1, path2, False, None)

    async def _rm_file(self, path: str, **_: Any) -> None:
        inner = self._strip_protocol(path)
        await self.session.call(lambda namespace: changing.remove(namespace, inner))

    async def _rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        """Remove objects; `recursive` everything below directories. Raises the first error when all were tried."""
        if recursive and maxdepth is None:
            for one in await self._expand_path(path):
                await self.session.call(partial(changing.remove_below, path=one))
            return
        paths = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        objects = paths if not recursive else [one for one in paths if not await self._isdir(one)]
        await self.session.call(partial(changing.remove_all, paths=objects))

    async def _mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        inner = self._strip_protocol(path)
        await self.session.call(lambda namespace: changing.make_directory(namespace, inner, parents=create_parents))

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        inner = self._strip_protocol(path)
        await self.session.call(lambda namespace: changing.make_directory(namespace, inner, exist_ok=exist_ok))

    async def _rmdir(self, path: str) -> None:
        inner = self._strip_protocol(path)
        await self.session.call(lambda namespace: changing.remove_directory(namespace, inner))

    def rmdir(self, path: str) -> None:
        """Remove an empty bucket or directory marker. Raises `FileNotFoundError`, `OSError` when it holds something."""
        sync(self.loop, self._rmdir, path)

    def sign(self, path: str, expiration: int = 100, method: str = "GET", **_: Any) -> str:
        """A URL by which anybody may read the object (`method` "PUT": write it) for `expiration` seconds, through the node.

        Raises `Unsupported` where no node serves the namespace.
        """
        inner = self._strip_protocol(path)
        options = self.session.options
        node = find_node(options, load_settings(options.config, os.environ))
        if node is None:
            raise Unsupported(f"{inner} is read inside this process: only a node can be asked with a URL", path=inner)
        return node.presigned(method, "/" + inner, time.time(), expires_s=expiration)

    async def _touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        try:
            await self._pipe_file(path, b"", mode="overwrite" if truncate else "create")
        except FileExistsError as error:
            raise Unsupported(f"touch {path}: stores do not change the time of an object alone", path=path) from error

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Make an empty object. Raises `Unsupported` for one that is there, unless `truncate`."""
        sync(self.loop, self._touch, path, truncate)


async def _appended(namespace: Namespace, path: str, autocommit: bool) -> WritingFile:
    longer, first, size = await writing.appending(namespace, path)
    return WritingFile(longer, mode="ab", first=first, position=size, autocommit=autocommit)


async def _held(namespace: Namespace, path: str, value: Any, condition: Condition) -> WritingFile:
    made = await writing.outgoing(namespace, path, condition=condition)
    try:
        await writing.fill(made, value, hold=True)
    except BaseException:  # whatever it is: tidied up here, raised on
        await made.discard()
        raise
    return WritingFile.sealed(made)
