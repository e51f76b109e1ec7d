"""Which writes are tried again, and how an unknown outcome is settled. The trying itself is `RetryStore`'s."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from headrace.model.clock import Clock
from headrace.model.errors import (
    BucketExists,
    ConditionFailed,
    NoSuchUpload,
    NotFound,
    Throttled,
    Unavailable,
)
from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.uploads import Bucket, Part, Upload
from headrace.model.writing import ALWAYS, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.parts import parts_etag
from headrace.stores.passing import PassingBody, PassingBuckets, PassingUploads
from headrace.stores.store import Store
from headrace.stores.writes import COMPOSITE, TYPE, has_md5

T = TypeVar("T")

_MD5 = re.compile("[0-9a-f]{32}")
_SETTLED_TIMES = 3

AT_THE_STORE_S = 600.0
"""How long a store may take to copy or to put parts together, which nobody sees getting ahead."""


class Progress:
    """When a call last got ahead, at first its beginning: what takes long is not late as long as it does."""

    def __init__(self, clock: Clock, deadline_s: float) -> None:
        self.at = clock.monotonic()
        self._clock = clock
        self.deadline_s = deadline_s
        self._limit: asyncio.Timeout | None = None
        self._is_waiting = False

    def left_s(self) -> float:
        """How much longer may pass without it."""
        return self.deadline_s - (self._clock.monotonic() - self.at)

    async def during(self, limit: asyncio.Timeout, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call of one try, which `limit` ends."""
        self._limit, self._is_waiting = limit, False
        try:
            return await call()
        finally:
            self._limit = None

    def moved(self) -> None:
        """The store took what it was given."""
        now = self._clock.monotonic()
        # A timer set anew costs more than being late by a hundredth.
        if not self._is_waiting and now - self.at <= self.deadline_s / 100:
            return
        self.at, self._is_waiting = now, False
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self.deadline_s)

    def waits(self) -> None:
        """The sender is waited for, which is not the store's fault."""
        if self._limit is not None:
            self._is_waiting = True
            self._limit.reschedule(None)


class WatchedBody(PassingBody):
    """Tells `progress`, and whether any of it was taken."""

    def __init__(self, inner: Body, progress: Progress) -> None:
        super().__init__(inner)
        self._progress = progress
        self._is_begun = False

    async def pieces(self) -> AsyncIterator[Buffer]:
        self._is_begun = True
        self._progress.waits()
        async for piece in super().pieces():
            self._progress.moved()
            yield piece
            self._progress.waits()
        self._progress.moved()

    def at_hand(self) -> Buffer | None:
        data = self.inner.at_hand()
        if data is not None:
            self._is_begun = True
            self._progress.moved()
        return data

    def may_repeat(self) -> bool:
        """Whether it can be sent again."""
        return self.rewindable or not self._is_begun


class Doubt:
    """Decides on a next try after an error, and keeps the first after which the outcome is not known."""

    def __init__(self, allow: Callable[[], bool] = lambda: True, *, only_certain: bool = False) -> None:
        self.error: Unavailable | None = None
        self._allow = allow
        self._only_certain = only_certain

    def __call__(self, error: Unavailable) -> bool:
        # A store that asks for fewer requests has not carried this one out.
        if not isinstance(error, Throttled):
            self.error = self.error or error
            if self._only_certain:
                return False
        return self._allow()


class Run(Protocol):
    """`RetryStore.retried`."""

    async def __call__(
        self,
        call: Callable[[], Awaitable[T]],
        path: str,
        *,
        again: Callable[[Unavailable], bool] | None = None,
        progress: Progress | None = None,
    ) -> T: ...


class RetriedWrites:
    """The changing verbs of `inner`, tried again where that cannot do harm.

    An unconditional write of the same bytes may be done twice. A conditional one may not once its outcome is unknown, since its
    own success would make it fail: what the store has now shows what happened.
    """

    def __init__(self, inner: Store, run: Run, clock: Clock, deadline_s: float) -> None:
        self._inner = inner
        self._run = run
        self._clock = clock
        self._deadline_s = deadline_s

    async def write(self, key: str, body: Body, attributes: Attributes, condition: Condition) -> ObjectInfo:
        """`Store.write`."""
        progress = Progress(self._clock, self._deadline_s)
        watched = WatchedBody(body, progress)
        doubt = Doubt(watched.may_repeat, only_certain=bool(condition))

        def once() -> Awaitable[ObjectInfo]:
            return self._inner.write(key, watched, attributes, condition=condition)

        if not condition:
            return await self._run(once, key, again=doubt, progress=progress)

        async def settled(found: ObjectInfo | None) -> ObjectInfo | None:
            return found if found is not None and await has_bytes_of(found, body) else None

        return await self._in_doubt(once, key, doubt, (condition, progress, watched.may_repeat), settled)

    async def delete(self, key: str, condition: Condition) -> None:
        """`Store.delete`."""
        progress = Progress(self._clock, self._deadline_s)
        doubt = Doubt(only_certain=bool(condition))

        async def once() -> bool:
            await self._inner.delete(key, condition=condition)
            return True

        async def settled(found: ObjectInfo | None) -> bool | None:
            return True if found is None else None

        await self._in_doubt(once, key, doubt, (condition, progress, lambda: True), settled)

    async def copy(self, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition) -> ObjectInfo:
        """`Store.copy`. A conditional one whose outcome is unknown is not tried again."""
        return await self._run(
            lambda: self._inner.copy(source, key, attributes, condition=condition),
            key,
            again=Doubt(only_certain=bool(condition)),
            progress=Progress(self._clock, AT_THE_STORE_S),
        )

    async def _in_doubt(
        self,
        once: Callable[[], Awaitable[T]],
        key: str,
        doubt: Doubt,
        how: tuple[Condition, Progress, Callable[[], bool]],
        settled: Callable[[ObjectInfo | None], Awaitable[T | None]],
    ) -> T:
        condition, progress, may_repeat = how
        for _ in range(_SETTLED_TIMES):
            try:
                return await self._run(once, key, again=doubt, progress=progress)
            except (Unavailable, ConditionFailed, NotFound) as error:
                if not condition or doubt.error is None:
                    raise
                found = await self._look(key)
                done = await settled(found)
                if done is not None:
                    return done
                if not isinstance(error, Unavailable) or not condition.holds(found) or not may_repeat():
                    raise doubt.error from error
        raise doubt.error or AssertionError("a write in doubt has an error")

    async def _look(self, key: str) -> ObjectInfo | None:
        try:
            return await self._run(lambda: self._inner.info(key), key)
        except NotFound:
            return None


class RetriedUploads(PassingUploads):
    """Multipart uploads, tried again where that cannot do harm."""

    def __init__(self, inner: Multipart, store: Store, run: Run, clock: Clock, deadline_s: float) -> None:
        super().__init__(inner)
        self._store = store
        self._run = run
        self._clock = clock
        self._deadline_s = deadline_s

    async def around(self, verb: str, key: str, call: Callable[[], Awaitable[T]]) -> T:
        # A second upload that nobody knows of would stay for ever.
        again = Doubt(only_certain=verb == "begin_upload")
        progress = Progress(self._clock, AT_THE_STORE_S if verb == "copy_part" else self._deadline_s)
        return await self._run(call, key, again=again, progress=progress)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        progress = Progress(self._clock, self._deadline_s)
        watched = WatchedBody(body, progress)
        call = self.inner.put
        return await self._run(
            lambda: call(upload, number, watched), upload.key, again=Doubt(watched.may_repeat), progress=progress
        )

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        doubt = Doubt(only_certain=bool(condition))
        complete, progress = self.inner.complete, Progress(self._clock, AT_THE_STORE_S)
        try:
            return await self._run(
                lambda: complete(upload, parts, condition=condition, checksums=checksums),
                upload.key,
                again=doubt,
                progress=progress,
            )
        except (Unavailable, NoSuchUpload):
            if doubt.error is None:
                raise
            found = await self._look(upload.key)
            if found is not None and found.etag and found.etag == expected_etag(parts):
                return found
            raise

    async def _look(self, key: str) -> ObjectInfo | None:
        try:
            return await self._run(lambda: self._store.info(key), key)
        except NotFound:
            return None

    async def abort(self, upload: Upload) -> None:
        doubt = Doubt()
        try:
            await self._run(lambda: self.inner.abort(upload), upload.key, again=doubt)
        except NoSuchUpload:
            if doubt.error is None:
                raise


class RetriedBuckets(PassingBuckets):
    """Buckets, tried again: what a try without an answer did is no error of the next."""

    def __init__(self, inner: Buckets, run: Run) -> None:
        super().__init__(inner)
        self._run = run

    async def list(self) -> tuple[Bucket, ...]:
        return await self._run(self.inner.list, "")

    async def create(self, name: str) -> Bucket:
        doubt = Doubt()
        try:
            return await self._run(lambda: self.inner.create(name), name, again=doubt)
        except BucketExists:
            if doubt.error is None:
                raise
            return Bucket(name, 0.0)

    async def find(self, name: str) -> Bucket:
        return await self._run(lambda: self.inner.find(name), name)

    async def set_acl(self, name: str, acl: str) -> None:
        await self._run(lambda: self.inner.set_acl(name, acl), name)

    async def delete(self, name: str) -> None:
        doubt = Doubt()
        try:
            await self._run(lambda: self.inner.delete(name), name, again=doubt)
        except NotFound:
            if doubt.error is None:
                raise


async def has_bytes_of(found: ObjectInfo, body: Body) -> bool:
    """Whether the store is seen to hold the bytes of `body`: by a checksum that both are known by."""
    if has_md5(found, await md5_of(body)):
        return True
    if (TYPE, COMPOSITE) in found.checksums:
        return False
    known = dict(found.checksums)
    told = [(name, value) for name, value in body.checksums() if name != TYPE and name in known]
    return bool(told) and all(known[name] == value for name, value in told)


async def md5_of(body: Body) -> str:
    """The hex MD5 of a body, if it can still be known."""
    told = dict(body.checksums()).get("md5")
    if told:
        return base64.b64decode(told).hex()
    if not body.rewindable:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    async for piece in body:
        digest.update(piece)
    return digest.hexdigest()


def expected_etag(parts: tuple[Part, ...]) -> str:
    """The ETag that an object of those parts has, where theirs are MD5s."""
    return parts_etag(parts) if all(_MD5.fullmatch(part.etag) for part in parts) else ""
