"""NodeStore: a running node seen as a store, with refusals in the words of its namespace.

A node answers as S3 does, so what lies below speaks of buckets and statuses. Whoever reads through a
node knows paths and mounts.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from headrace.model.errors import (
    AccessDenied,
    HeadraceError,
    InvalidRange,
    NoSuchUpload,
    NotFound,
    ReadOnly,
    Throttled,
    Unavailable,
    VersionChanged,
)
from headrace.model.objects import ByteRange, CommonPrefix, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.passing import PassingBuckets, PassingUploads
from headrace.stores.store import Store

T = TypeVar("T")

_WRONG_KEY = re.compile(r"\b(InvalidAccessKeyId|SignatureDoesNotMatch|RequestTimeTooSkewed)\b")
_NO_WRITES = "nothing can be written at this path"
_WHY = re.compile(r"Access Denied: (.*?)(?:; check the mount's credentials|$)")
_SILENT = "status 403"
_NO_BUCKET = re.compile(r"s3 bucket .* does not exist")
_MAX_NAMES = 20


class NodeStore(Store):
    """`inner`, which is a node's data port; keys are its paths without the slash in front."""

    def __init__(self, inner: Store, endpoint: str) -> None:
        self._inner = inner
        self._host = urlsplit(endpoint).netloc

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        return self._inner.peek(key, byte_range, files=files)

    async def info(self, key: str) -> ObjectInfo:
        return await self.worded(key, self._inner.info(key))

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        return await self.worded(key, self._inner.read(key, byte_range, version=version))

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        try:
            return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)
        except NotFound as error:
            raise await self._nothing_mounted(prefix) from error
        except HeadraceError as error:
            raise self._in_words(prefix, error) from error

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self.worded(key, self._inner.tags(key))

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self.worded(info.key, self._inner.part(info, number))

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        return await self.worded(key, self._inner.write(key, body, attributes, condition=condition), "write")

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self.worded(key, self._inner.copy(source, key, attributes, condition=condition), "write")

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self.worded(key, self._inner.delete(key, condition=condition), "remove")

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self.worded(key, self._inner.set_tags(key, tags), "write")

    def multipart(self) -> Multipart:
        return _NodeUploads(self._inner.multipart(), self)

    def buckets(self) -> Buckets:
        return _NodeBuckets(self._inner.buckets(), self)

    async def close(self) -> None:
        await self._inner.close()

    async def worded(self, key: str, call: Awaitable[T], act: str = "read") -> T:
        """What the call answers, with what it is refused for put into the namespace's words."""
        try:
            return await call
        except AccessDenied as error:
            raise self._in_words(key, await self._reason(key, error), act) from error
        except NotFound as error:
            raise (
                await self._nothing_mounted(key) if _NO_BUCKET.match(str(error)) else self._in_words(key, error, act)
            ) from error
        except HeadraceError as error:
            raise self._in_words(key, error, act) from error

    async def _reason(self, key: str, error: AccessDenied) -> HeadraceError:
        """A refused HEAD has no body that says why: a GET has."""
        if not str(error.args[0]).partition(";")[0].endswith(_SILENT):
            return error
        try:
            reading = await self._inner.read(key, ByteRange(0, 1))
        except AccessDenied as told:
            return told
        except HeadraceError:
            return error
        await reading.aclose()
        return error

    def _in_words(self, key: str, error: HeadraceError, act: str = "read") -> HeadraceError:
        path, told = "/" + key, str(error)
        shown, mount = _shown(path), _shown("/" + key.partition("/")[0])
        if isinstance(error, NotFound):
            return _absent(error, key, shown)
        if isinstance(error, AccessDenied) and _NO_WRITES in told:
            return ReadOnly(f'{shown} takes no writes: set write = "through" on the mount that it lies in', path=path)
        if isinstance(error, AccessDenied):
            return AccessDenied(self._refusal(shown, mount, told, act), path=path)
        if isinstance(error, InvalidRange):
            return InvalidRange(f"{shown} has {error.size} bytes: the range lies outside", path=path, size=error.size)
        if isinstance(error, VersionChanged):
            return VersionChanged(f"{shown} was changed meanwhile: read it again", path=path)
        return self._away(error, mount, path) if isinstance(error, Unavailable) else error

    def _away(self, error: Unavailable, mount: str, path: str) -> Unavailable:
        if isinstance(error, Throttled):
            message = f"the node or the store behind {mount} is asked for too much now: try again, more slowly"
        elif str(error).startswith("s3 "):
            message = f"the store behind {mount} cannot be asked now: see `headrace status`"
        elif "connection refused" in str(error):
            message = f"no node answers at {self._host} (connection refused): start one with `headrace up`"
        else:
            return error
        return type(error)(message, path=path, retry_after_s=error.retry_after_s)

    def _refusal(self, shown: str, mount: str, told: str, act: str) -> str:
        wrong = _WRONG_KEY.search(told)
        if wrong is not None:
            return f"the node at {self._host} does not accept your key ({wrong.group(1)}): is it the key of another node?"
        if "refused its own credentials" in told:
            return f"the store behind {mount} refused the mount's credentials: see `headrace doctor`"
        if act == "change":
            why = _WHY.search(told)
            if why is not None:
                return f"{shown} cannot be made or removed: {why.group(1)}"
        return f"your key may not {act} {shown}: a rule of the node refuses it"

    async def _nothing_mounted(self, prefix: str) -> NotFound:
        path = "/" + prefix.partition("/")[0]
        try:
            page = await self._inner.list("", delimiter="/", limit=_MAX_NAMES)
        except HeadraceError:
            return NotFound(f"nothing is mounted at {_shown(path)}: see `headrace mount ls`", path=path)
        names = [_shown("/" + entry.key.rstrip("/")) for entry in page.entries if isinstance(entry, CommonPrefix)]
        if not names:
            return NotFound("nothing is mounted yet: `headrace mount add /name s3://bucket …` mounts a store", path=path)
        if _shown(path) in names:
            message = (
                f"the store behind {_shown(path)} has no such bucket: see `headrace doctor`, and its name in `headrace mount ls`"
            )
            return NotFound(message, path=path)
        more = ", …" if page.after is not None else ""
        return NotFound(f"nothing is mounted at {_shown(path)}; mounts: {', '.join(names)}{more}", path=path)


class _NodeUploads(PassingUploads):
    def __init__(self, inner: Multipart, store: NodeStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, key: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self._store.worded(key, call(), "read" if verb == "parts_of" else "write")


class _NodeBuckets(PassingBuckets):
    def __init__(self, inner: Buckets, store: NodeStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, name: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  all are worded alike
        return await self._store.worded(name, call(), "change")


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)


def _absent(error: NotFound, key: str, shown: str) -> NotFound:
    if isinstance(error, NoSuchUpload):
        return NoSuchUpload(f"there is no such multipart upload of {shown} any more", path="/" + key)
    if "/" not in key:
        return NotFound(f"{shown} is no object: name one below it; `headrace ls {shown}` shows what there is", path="/" + key)
    return NotFound(f"there is no {shown}: `headrace ls` shows what there is", path="/" + key)
