"""What wrappers of stores share: bodies, multipart uploads and buckets that pass everything on, to be overridden in part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.uploads import Bucket, Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart

T = TypeVar("T")


class PassingBody(Body):
    """`inner`; subclasses say in `pieces` what happens on the way, and in `at_hand` the same for a body that is there already."""

    def __init__(self, inner: Body) -> None:
        self.inner = inner
        self.length = inner.length
        self.rewindable = inner.rewindable

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self.pieces()

    async def pieces(self) -> AsyncIterator[Buffer]:
        """The bytes of `inner`, whose iteration ends with this one."""
        iterator = aiter(self.inner)
        try:
            async for piece in iterator:
                await self.pass_on(piece)
                yield piece
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def pass_on(self, piece: Buffer) -> None:
        """Called before each piece."""

    def checksums(self) -> Pairs:
        return self.inner.checksums()


class PassingUploads(Multipart):
    """`inner`, with every call going through `around`, and every body through `body`."""

    def __init__(self, inner: Multipart) -> None:
        self.inner = inner

    async def around(self, verb: str, key: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  for subclasses
        """Make the call of `verb` that is about `key`."""
        return await call()

    def body(self, body: Body) -> Body:
        """What is handed on in place of a part's body."""
        return body

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        begin = self.inner.begin
        return await self.around(
            "begin_upload", key, lambda: begin(key, attributes, checksum=checksum, checksum_type=checksum_type)
        )

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        passed = self.body(body)
        return await self.around("put_part", upload.key, lambda: self.inner.put(upload, number, passed))

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        return await self.around("copy_part", upload.key, lambda: self.inner.copy(upload, number, source, byte_range))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        return await self.around("list_parts", upload.key, lambda: self.inner.parts(upload, after=after, limit=limit))

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        return await self.around("parts_of", info.key, lambda: self.inner.parts_of(info, after=after, limit=limit))

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        complete = self.inner.complete
        return await self.around(
            "complete_upload", upload.key, lambda: complete(upload, parts, condition=condition, checksums=checksums)
        )

    async def abort(self, upload: Upload) -> None:
        await self.around("abort_upload", upload.key, lambda: self.inner.abort(upload))

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        return await self.around("list_uploads", prefix, lambda: self.inner.list(prefix, after=after, limit=limit))


class PassingBuckets(Buckets):
    """`inner`, with every call going through `around`."""

    def __init__(self, inner: Buckets) -> None:
        self.inner = inner

    async def around(self, verb: str, name: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  for subclasses
        """Make the call of `verb` that is about the bucket `name`."""
        return await call()

    async def list(self) -> tuple[Bucket, ...]:
        return await self.around("list_buckets", "", self.inner.list)

    async def create(self, name: str) -> Bucket:
        return await self.around("create_bucket", name, lambda: self.inner.create(name))

    async def find(self, name: str) -> Bucket:
        return await self.around("find_bucket", name, lambda: self.inner.find(name))

    async def set_acl(self, name: str, acl: str) -> None:
        await self.around("set_bucket_acl", name, lambda: self.inner.set_acl(name, acl))

    async def delete(self, name: str) -> None:
        await self.around("delete_bucket", name, lambda: self.inner.delete(name))
