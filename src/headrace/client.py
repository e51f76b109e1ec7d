"""The client API for Python programs that use no fsspec: `headrace.Client`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from headrace.gateways import changing, writing
from headrace.gateways import fsspec as calls
from headrace.gateways.sending import send_file
from headrace.model.errors import NotFound
from headrace.model.objects import CommonPrefix, Entry, Listing, ObjectInfo, with_key
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Condition
from headrace.namespace.namespace import Namespace
from headrace.openfile import HeadraceFile, ObjectReader
from headrace.session import Mode, Session, SessionOptions

CHUNK_BYTES = 1024 * 1024


class ReadRequest(msgspec.Struct, frozen=True):
    """One range for `Client.read_many`: bytes `start` up to `end` (None: to the object's end)."""

    path: str
    start: int = 0
    end: int | None = None


def namespace_path(path: str) -> str:
    """`headrace://bucket/key`, `bucket/key` or `/bucket/key` as `/bucket/key`; the key is kept exactly."""
    return "/" + path.removeprefix("headrace://").removeprefix("/")


class Client:
    """Blocking access to the namespace. Safe to share between threads, and with forked children.

    Methods raise `headrace.model.errors`; `NotFound` is also a `FileNotFoundError`, `AccessDenied` a
    `PermissionError`. Keys of what is returned are whole paths (`/bucket/key`).
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    @classmethod
    def connect(
        cls,
        config: str | None = None,
        *,
        endpoint: str | None = None,
        key_id: str | None = None,
        secret: str | None = None,
        mode: Mode = "auto",
    ) -> Client:
        """A client of the node at `endpoint`, or of the settings in `config` without any node (`embedded`).

        `auto`: remote when an endpoint is given or the settings' node answers, else embedded. Raises `SettingsError`.
        """
        return cls(Session(SessionOptions(config=config, endpoint=endpoint, key_id=key_id, secret=secret, mode=mode)))

    def ls(self, path: str = "/", recursive: bool = False) -> Iterator[Entry]:
        """What lies directly below the directory `path` (with `recursive`, every object below it), sorted, lazily."""
        whole = namespace_path(path)
        root, _, prefix = whole[1:].partition("/")
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        return self._listed("/" + root, prefix, "" if recursive else "/")

    def stat(self, path: str) -> ObjectInfo:
        """The object at `path` as it is now. Raises `NotFound`."""
        whole = namespace_path(path)
        return with_key(self.session.run(lambda namespace: namespace.info(whole)), whole)

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`. Raises `Unavailable` where that cannot be known now."""
        try:
            self.stat(path)
        except NotFound:
            return False
        return True

    def open(self, path: str) -> BinaryIO:
        """The object, buffered and seekable; all reads are of the version that is current now."""
        info = self.stat(path)
        return cast("BinaryIO", HeadraceFile(ObjectReader(self.session, info.key[1:], info)))

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` to `end` as Python slices count: negative ones from the end."""
        inner = namespace_path(path)[1:]
        return self.session.run(lambda namespace: calls.read_range(namespace, inner, start, end))[1]

    def read_many(self, ranges: Sequence[ReadRequest]) -> list[bytes]:
        """Many ranges in one go, neighbours joined; those of one path are of one version. Starts must not be negative."""
        return self.session.run(lambda namespace: _read_many(namespace, ranges))

    def put(self, path: str, data: bytes | Path, *, attributes: Attributes = PLAIN, condition: Condition = ALWAYS) -> ObjectInfo:
        """The object with `data`, or with the bytes of a file: whole or not at all. For what is made piece by piece use fsspec.

        Raises `ReadOnly` where the mount takes no writes, `ConditionFailed` (`FileExistsError` for `if_none_match="*"`).
        """
        whole = namespace_path(path)
        work = partial(_put, path=whole[1:], data=data, attributes=attributes, condition=condition)
        return with_key(self.session.run(work), whole)

    def delete(self, path: str, *, condition: Condition = ALWAYS) -> None:
        """Remove the object; that there is none is no error. Raises `ReadOnly`, `ConditionFailed`."""
        whole = namespace_path(path)
        self.session.run(lambda namespace: namespace.delete(whole, condition=condition))

    def copy(self, source: str, target: str, *, condition: Condition = ALWAYS) -> ObjectInfo:
        """The object at `target`, made of the one at `source` with its attributes. Raises `NotFound`, `ReadOnly`."""
        origin, whole = namespace_path(source), namespace_path(target)
        work = partial(changing.copy, source=origin[1:], target=whole[1:], condition=condition)
        return with_key(self.session.run(work)[1], whole)

    def iter_bytes(self, path: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The whole object in pieces of `chunk_bytes`, the last one shorter."""
        with self.open(path) as opened:
            while piece := opened.read(chunk_bytes):
                yield piece

    def close(self) -> None:
        """Free connections and files. Open files of this client fail afterwards."""
        self.session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listed(self, root: str, prefix: str, delimiter: str) -> Iterator[Entry]:
        base = root.rstrip("/") + "/"
        after: str | None = ""
        seen = False
        while after is not None:
            page = self.session.run(partial(_list, root=root, prefix=prefix, delimiter=delimiter, after=after))
            for entry in page.entries:
                seen = True
                yield with_key(entry, base + entry.key) if isinstance(entry, ObjectInfo) else CommonPrefix(base + entry.key)
            after = page.after
        if not seen and prefix:
            yield self.stat(base + prefix.removesuffix("/"))


async def _put(namespace: Namespace, path: str, data: bytes | Path, attributes: Attributes, condition: Condition) -> ObjectInfo:
    if not isinstance(data, Path):
        return await writing.write_bytes(namespace, path, data, attributes, condition=condition)
    made = await writing.outgoing(namespace, path, attributes, condition=condition)
    await send_file(made, data)
    return await made.publish()


async def _list(namespace: Namespace, *, root: str, prefix: str, delimiter: str, after: str) -> Listing:
    return await namespace.list(root, prefix, delimiter=delimiter, after=after)


async def _read_many(namespace: Namespace, ranges: Sequence[ReadRequest]) -> list[bytes]:
    numbered = sorted(enumerate(ranges), key=lambda pair: pair[1].path)
    answer = [b""] * len(ranges)
    for path, group in itertools.groupby(numbered, key=lambda pair: pair[1].path):
        spans = [calls.Span(at, r.start, calls.END if r.end is None else r.end) for at, r in group]
        for at, data in (await calls.read_spans(namespace, namespace_path(path)[1:], spans)).items():
            answer[at] = data
    return answer
