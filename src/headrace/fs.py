"""The fsspec filesystem `headrace://bucket/key`, remote or embedded as the settings say. `fs_writing.py` has what writes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import stringify_path

from headrace import bridge
from headrace.fs_writing import WritingFileSystem
from headrace.gateways import fsspec as calls
from headrace.model.errors import NotFound
from headrace.model.objects import ObjectInfo
from headrace.openfile import BUFFER_BYTES, HeadraceFile, ObjectReader
from headrace.session import Mode, Opener, Session, SessionOptions
from headrace.writefile import WritingFile

Details = dict[str, Any]


def _details(node: calls.Node) -> Details:
    info = node.info
    if info is None:
        return {"name": node.path, "size": 0, "type": "directory"}
    return {
        "name": node.path,
        "size": info.size,
        "type": "file",
        "mtime": info.modified_s,
        "LastModified": datetime.fromtimestamp(info.modified_s, UTC),
        "ETag": info.etag,
        "version": info.version.token,
        "content_type": info.content_type,
    }


def _only_missing(error: Exception) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


class HeadraceFileSystem(WritingFileSystem):
    """Data through Headrace. Options are those of `headrace.Client.connect`; all have defaults.

    A directory is whatever has keys below it. A file open for reading reads one version until it is closed; one that is
    written appears when it is closed. Listings are not cached here: freshness is the mount's to say.
    """

    protocol = "headrace"
    blocksize = BUFFER_BYTES

    def __init__(
        self,
        config: str | None = None,
        *,
        endpoint: str | None = None,
        key_id: str | None = None,
        secret: str | None = None,
        mode: Mode = "auto",
        opener: Opener | None = None,
        **storage_options: Any,
    ) -> None:
        storage_options.pop("loop", None)
        super().__init__(loop=bridge.loop(), **storage_options)
        options = SessionOptions(config=config, endpoint=endpoint, key_id=key_id, secret=secret, mode=mode)
        self.session = Session(options, opener)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """This process's bridge loop, also in a forked child and when made for another loop."""
        return bridge.loop()

    @property
    def fsid(self) -> str:
        return "headrace_" + hashlib.blake2b(repr(self.session.options).encode(), digest_size=8).hexdigest()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(stringify_path(path)).removeprefix("headrace://").lstrip("/").rstrip("/")

    async def _info(self, path: str, **_: Any) -> Details:
        inner = self._strip_protocol(path)
        return _details(await self.session.call(lambda namespace: calls.stat(namespace, inner)))

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        inner = self._strip_protocol(path)
        nodes = await self.session.call(lambda namespace: calls.children(namespace, inner))
        return [_details(node) for node in nodes] if detail else [node.path for node in nodes]

    async def _isfile(self, path: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == "file")
        except NotFound:
            return False

    async def _isdir(self, path: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == "directory")
        except NotFound:
            return False

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, *, detail: bool = False, prefix: str = "", **_: Any
    ) -> Any:
        path = self._strip_protocol(path)
        if maxdepth is not None:
            return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail)
        nodes = await self.session.call(lambda ns: calls.tree(ns, path, folders=withdirs, name_prefix=prefix))
        return {node.path: _details(node) for node in nodes} if detail else [node.path for node in nodes]

    async def _walk(self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "omit", **_: Any) -> Any:
        """What is not there is left out; a refusal, or a store that is away, never looks like an empty directory."""
        omit = _only_missing if on_error == "omit" else on_error
        async for found in super()._walk(path, maxdepth=maxdepth, topdown=topdown, on_error=omit, **_):
            yield found

    async def _du(self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **_: Any) -> Any:
        found = await self._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: details["size"] for name, details in found.items()}
        return sum(sizes.values()) if total else sizes

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        inner = self._strip_protocol(path)
        return (await self.session.call(lambda namespace: calls.read_range(namespace, inner, start, end)))[1]

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,  # noqa: ARG002 (fsspec's own parameter; we join by what a request costs)
        batch_size: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Neighbouring ranges of a path are joined into one read; all ranges of a path are of one version."""
        starts = list(starts) if isinstance(starts, (list, tuple)) or hasattr(starts, "__iter__") else [starts] * len(paths)
        ends = list(ends) if isinstance(ends, (list, tuple)) or hasattr(ends, "__iter__") else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError("cat_ranges: paths, starts and ends differ in length")
        if any((start or 0) < 0 or (end or 0) < 0 for start, end in zip(starts, ends, strict=True)):
            return list(await super()._cat_ranges(paths, starts, ends, batch_size=batch_size, on_error=on_error))
        by_path: dict[str, list[calls.Span]] = {}
        for index, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
            span = calls.Span(index, int(start or 0), calls.END if end is None else int(end))
            by_path.setdefault(self._strip_protocol(path), []).append(span)
        works = [self.session.call(partial(calls.read_spans, path=path, spans=spans)) for path, spans in by_path.items()]
        answer: list[Any] = [b""] * len(paths)
        for spans, outcome in zip(by_path.values(), await asyncio.gather(*works, return_exceptions=True), strict=True):
            if isinstance(outcome, BaseException) and (on_error != "return" or not isinstance(outcome, Exception)):
                raise outcome
            for span in spans:
                answer[span.index] = outcome[span.index] if isinstance(outcome, dict) else outcome
        return answer

    async def _get_file(self, rpath: str, lpath: Any, callback: Callback = DEFAULT_CALLBACK, **_: Any) -> None:
        path = self._strip_protocol(rpath)
        details = await self._info(path)
        target = Path(os.fspath(lpath))
        if details["type"] == "directory":
            target.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 (fsspec's own loop of local calls)
            return
        callback.set_size(details["size"])
        await self.session.call(partial(calls.copy_out, path=path, target=target, progress=callback.relative_update))

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, autocommit: bool = True, **_: Any
    ) -> HeadraceFile | WritingFile:
        path = self._strip_protocol(path)
        if mode != "rb":
            return self.open_for_writing(path, mode, autocommit=autocommit)
        info = self._object(path)
        reader = ObjectReader(self.session, path, info)
        return HeadraceFile(reader, buffer_bytes=min(max(block_size or 0, BUFFER_BYTES), 16 * BUFFER_BYTES))

    def _object(self, path: str) -> ObjectInfo:
        return self.session.run(lambda namespace: calls.object_at(namespace, path))

    def modified(self, path: str) -> datetime:
        """When the object was last written, in UTC."""
        return datetime.fromtimestamp(self._object(self._strip_protocol(path)).modified_s, UTC)

    def created(self, path: str) -> datetime:
        """As `modified`: stores replace objects, they do not change them."""
        return self.modified(path)

    def ukey(self, path: str) -> str:
        """Text that changes whenever the object's bytes do."""
        path = self._strip_protocol(path)
        token = self._object(path).version.token
        return hashlib.blake2b(f"{path}\n{token}".encode(), digest_size=16).hexdigest()

    def checksum(self, path: str) -> int:
        """A number that changes whenever the object's bytes do."""
        return int(self.ukey(path), 16)
