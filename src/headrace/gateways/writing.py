"""What Python callers write, in calls of the namespace: streamed with bounded memory, seen whole or not at all.

A path here is `bucket/key` without a slash in front, as in `gateways/fsspec.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress

from headrace.gateways.fsspec import read_range, split
from headrace.model.errors import ConditionFailed, HeadraceError, NotFound, Unavailable, Unsupported
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, PLAIN, Attributes, BytesBody, Condition, attributes_of
from headrace.namespace.namespace import Namespace
from headrace.namespace.uploads import NamespaceUploads
from headrace.stores.parts import parts_etag
from headrace.stores.s3_parts import FIRST_PART_BYTES, growing_part_bytes

PART_BYTES = FIRST_PART_BYTES
"""Up to here an object is one write; a longer one is sent in parts that begin at this length."""

PARTS_AT_ONCE = 4
APPEND_MAX_BYTES = 1 << 30
"""What appending copies at most of an object that is there already."""

ABSENT = Condition(if_none_match="*")

_COPIED_PART_BYTES = 128 << 20
_HELD_BYTES = 64 * 1024
_PARTS_PER_PAGE = 1000

Made = Buffer | Callable[[], Buffer]
"""Bytes, or what makes them; it is called in a thread, once there is room for them."""


class Outgoing:
    """One object on its way into the namespace. Nothing of it is seen before `publish`.

    `add` its parts in order, `seal` it with the last bytes, then `publish` or `discard` it. An object that was sealed without
    parts is one write. All calls are made on one event loop. `gate` bounds the parts that are in memory at once.
    """

    def __init__(
        self,
        namespace: Namespace,
        path: str,
        attributes: Attributes = PLAIN,
        *,
        condition: Condition = ALWAYS,
        gate: asyncio.Semaphore | None = None,
    ) -> None:
        self.path = path
        self.progress: Callable[[int], None] = _ignore
        """Told the length of each part that the store has."""
        self.resumable = False
        """Whether the upload is kept, for another `go_on`, when the store cannot be reached or the work is broken off."""
        self.begun: Callable[[Upload], None] = _ignore
        """Told of the multipart upload, in a thread, before its first part is sent."""
        self._namespace = namespace
        self._uploads = NamespaceUploads(namespace)
        self._attributes = attributes
        self._condition = condition
        self._gate = gate or asyncio.Semaphore(PARTS_AT_ONCE)
        self._upload: Upload | None = None
        self._held: dict[int, Part] = {}
        self._parts: dict[int, Part] = {}
        self._digests: dict[int, Part] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._next = 1
        self._rest: Buffer = b""
        self._ended = False
        self._paused = False

    @property
    def is_paused(self) -> bool:
        """Whether it ended without an object, and an upload that may be taken up was kept."""
        return self._paused

    @property
    def next_part_bytes(self) -> int:
        """How long the next part of a body of unknown length should be."""
        return growing_part_bytes(self._next)

    @property
    def expected_etag(self) -> str:
        """The ETag that what was sent has in a store whose ETags are MD5s; empty when parts were copied."""
        if self._upload is None:
            return hashlib.md5(self._rest, usedforsecurity=False).hexdigest()
        return parts_etag([self._digests[number] for number in sorted(self._digests)]) if self._knows_all else ""

    @property
    def _knows_all(self) -> bool:
        return self._digests.keys() == self._parts.keys()

    async def go_on(self, upload: Upload) -> None:
        """Take up an upload of this object that was left; its parts are not sent again. Raises `NoSuchUpload`."""
        after: int | None = 0
        while after is not None:
            page = await self._uploads.parts(upload, after=after, limit=_PARTS_PER_PAGE)
            self._held |= {part.number: part for part in page.parts}
            after = page.after
        self._upload = upload

    async def add(self, data: Made) -> None:
        """One part more, sent while the caller goes on. Raises what sending an earlier one raised."""
        upload = await self._begin()
        await self._gate.acquire()
        if self._failure is not None:
            self._gate.release()
            raise self._failure
        task = asyncio.ensure_future(self._send(upload, self._next, data))
        self._next += 1
        self._sending.add(task)
        task.add_done_callback(self._sent)

    async def seal(self, rest: Made, *, hold: bool = False) -> None:
        """The last bytes, and the wait until all parts are there. With `hold`, long until `publish`, only few stay in memory."""
        if self._upload is None:
            if callable(rest):
                async with self._gate:
                    rest = await asyncio.to_thread(rest)
            if not hold or len(rest) <= _HELD_BYTES:
                self._rest = rest
                return
        if callable(rest) or len(rest):
            await self.add(rest)
        while self._sending:
            await asyncio.wait(self._sending)
        if self._failure is not None:
            raise self._failure

    async def publish(self) -> ObjectInfo:
        """Make the object. When it fails, nothing of it stays. Raises as `Store.write`, for `ABSENT` `FileExistsError`."""
        if self._ended:
            raise ValueError(f"{self.path} was published or discarded already")
        try:
            info = await self._publish()
        except BaseException as error:  # whatever it is: tidied up here, raised on
            await self.give_up(error)
            if isinstance(error, ConditionFailed) and self._condition == ABSENT:
                raise FileExistsError(f"{self.path} exists already") from error
            raise
        self._ended = True
        return info

    async def give_up(self, error: BaseException) -> None:
        """`discard` it because of `error`, or only stop when it is `resumable`."""
        if self.resumable and not self._ended and isinstance(error, (Unavailable, asyncio.CancelledError)):
            await self._stop()
            self._paused = True
        else:
            await self.discard()

    async def discard(self) -> None:
        """Leave nothing of it. Does nothing once it was published."""
        if self._ended:
            return
        await self._stop()
        if self._upload is not None:
            # What cannot be removed now is never seen, and stores sweep what is left of uploads.
            with suppress(HeadraceError):
                await self._uploads.abort(self._upload)

    async def _stop(self) -> None:
        self._ended = True
        sending = tuple(self._sending)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    async def aclose(self) -> None:
        """As `discard`: what was not published when its process ends is dropped."""
        await self.discard()

    async def take(self, source: ObjectInfo) -> None:
        """Begin with the bytes of an object whose `key` is its path: at least `PART_BYTES`, copied by the store where it can."""
        upload = await self._begin()
        count = -(-source.size // _COPIED_PART_BYTES)
        bounds = [source.size * index // count for index in range(count + 1)]
        for start, end in itertools.pairwise(bounds):
            number, self._next = self._next, self._next + 1
            self._parts[number] = await self._uploads.copy(upload, number, source, ByteRange(start, end))

    async def _begin(self) -> Upload:
        if self._upload is None:
            self._upload = await self._uploads.begin("/" + self.path, self._attributes)
            await asyncio.to_thread(self.begun, self._upload)
        return self._upload

    async def _send(self, upload: Upload, number: int, made: Made) -> None:
        try:
            data, digest = await asyncio.to_thread(_digested, made)
            self._digests[number] = Part(number, digest.hex(), len(data))
            part = self._held.get(number)
            if part is None or part.size != len(data) or part.etag != digest.hex():
                part = await self._uploads.put(upload, number, _proved(data, digest))
            self._parts[number] = part
            self.progress(len(data))
        except Exception as error:  # noqa: BLE001  whatever it is: raised by the call that waits for the parts
            self._failure = self._failure or error

    def _sent(self, task: asyncio.Task[None]) -> None:
        # Not in the task itself: one that is cancelled before it begins never comes to its `finally`.
        self._sending.discard(task)
        self._gate.release()

    async def _publish(self) -> ObjectInfo:
        if self._upload is not None:
            parts = tuple([self._parts[number] for number in sorted(self._parts)])
            return await self._uploads.complete(self._upload, parts, condition=self._condition)
        data, digest = await asyncio.to_thread(_digested, self._rest)
        info = await self._namespace.write("/" + self.path, _proved(data, digest), self._attributes, condition=self._condition)
        self.progress(len(data))
        return info


def _digested(made: Made) -> tuple[Buffer, bytes]:
    data = made() if callable(made) else made
    return data, hashlib.md5(data, usedforsecurity=False).digest()


def _proved(data: Buffer, md5: bytes) -> BytesBody:
    return BytesBody(data, (("md5", b64encode(md5).decode()),))


def _ignore(_: object) -> None:
    """Nobody wants to know."""


async def outgoing(
    namespace: Namespace,
    path: str,
    attributes: Attributes = PLAIN,
    *,
    condition: Condition = ALWAYS,
    gate: asyncio.Semaphore | None = None,
) -> Outgoing:
    """An object to be written, refused here as far as that is known already.

    Raises `IsADirectoryError` for a path without a key, `ReadOnly`, and for `ABSENT` `FileExistsError`.
    """
    check_object_path(path)
    namespace.writable("/" + path)
    if condition == ABSENT:
        with suppress(NotFound):
            await namespace.info("/" + path)
            raise FileExistsError(f"{path} exists already")
    return Outgoing(namespace, path, attributes, condition=condition, gate=gate)


async def appending(namespace: Namespace, path: str, *, gate: asyncio.Semaphore | None = None) -> tuple[Outgoing, bytes, int]:
    """The object at `path`, to be replaced by one with more bytes; what of it must be sent once more; and its size.

    Raises `Unsupported` for one that is too long to be copied. What others write meanwhile makes `publish` fail.
    """
    check_object_path(path)
    namespace.writable("/" + path)
    try:
        info = await namespace.info("/" + path)
    except NotFound:
        return Outgoing(namespace, path, condition=ABSENT, gate=gate), b"", 0
    if info.size > APPEND_MAX_BYTES:
        raise Unsupported(
            f"{path} has {info.size} bytes: appending copies all of them, at most {APPEND_MAX_BYTES}; write another object",
            path=path,
        )
    attributes = attributes_of(info, await namespace.tags("/" + path))
    longer = Outgoing(namespace, path, attributes, condition=Condition(if_match=info.etag), gate=gate)
    if info.size < PART_BYTES:
        return longer, (await read_range(namespace, path, None, None, version=info.version))[1], info.size
    try:
        await longer.take(info)
    except BaseException:  # whatever it is: tidied up here, raised on
        await longer.discard()
        raise
    return longer, b"", info.size


async def write_bytes(
    namespace: Namespace, path: str, data: Buffer, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS
) -> ObjectInfo:
    """The object with `data`, whose parts are sent at once when it is long. Raises as `Outgoing.publish`."""
    check_object_path(path)
    made = Outgoing(namespace, path, attributes, condition=condition)
    try:
        await fill(made, data)
        return await made.publish()
    except BaseException:  # whatever it is: tidied up here, raised on
        await made.discard()
        raise


async def fill(made: Outgoing, data: Buffer, *, hold: bool = False) -> None:
    """All of an object's bytes."""
    view = memoryview(data).cast("B")
    start = 0
    while len(view) - start > PART_BYTES:
        end = start + made.next_part_bytes
        await made.add(view[start:end])
        start = end
    await made.seal(view[start:], hold=hold)


def check_object_path(path: str) -> None:
    """Raises `IsADirectoryError` for the root and for a bucket."""
    if not split(path)[1]:
        raise IsADirectoryError(f"/{path} is a directory: name an object in it")
