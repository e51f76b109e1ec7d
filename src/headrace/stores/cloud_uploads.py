"""CloudUploads: the multipart uploads of a cloud's bucket that keeps no uploads as S3 means them.

An upload is an object that describes it, below the store's own prefix, and its parts. Completing claims the description,
publishes under the condition and removes it; dropping removes it unless it is claimed. The service decides which of two calls
was first: each change of a description is conditional on the state that was seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from heapq import nsmallest
from typing import Generic, TypeVar

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import (
    Conflict,
    HeadraceError,
    NoSuchUpload,
    NotFound,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import MAX_PART_NUMBER, Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.stores.kept_text import Kept, fingerprint, kept_of_parts
from headrace.stores.keys import check_text
from headrace.stores.multipart import Multipart
from headrace.stores.parts import (
    can_keep,
    check_checksums,
    check_number,
    check_within,
    named_parts,
    part_bounds,
    parts_checksums,
    upload_order,
)
from headrace.stores.upload_notes import Begun, HeldPart, check_id, new_upload, no_such
from headrace.stores.upload_sweeper import Sweeper
from headrace.stores.writes import check_condition

B = TypeVar("B", bound=Begun)
H = TypeVar("H", bound=HeldPart)
J = TypeVar("J")

Read = Callable[[str, ByteRange | None, Version], Awaitable[Reading]]
"""`Store.read` of the bucket, also of what belongs to the store itself."""


class Found(msgspec.Struct, frozen=True):
    """An object of the bucket, and what was noted with it."""

    info: ObjectInfo
    kept: Kept


class Steps(ABC, Generic[B, H, J]):
    """What differs from service to service. `B` is a description's state, `H` a part, `J` the parts ready to be published."""

    claim_s: float
    """How long publishing takes the service at most, in seconds: a call that began it longer ago is no more."""

    @abstractmethod
    async def begin(self, upload: Upload, attributes: Attributes) -> None:
        """Describe a new upload. Raises `InvalidKey`, `Unsupported`."""

    @abstractmethod
    async def begun(self, upload: Upload) -> B | None:
        """What is described under the upload's id, whatever its key; None when nothing is."""

    @abstractmethod
    async def put(self, begun: B, number: int, body: Body) -> Part:
        """`Multipart.put`."""

    @abstractmethod
    async def copy(self, begun: B, number: int, source: ObjectInfo, byte_range: ByteRange | None) -> Part | None:
        """`Multipart.copy`; None: the bytes have to pass through here."""

    @abstractmethod
    async def held(self, begun: B, *, after: int, limit: int) -> Sequence[H]:
        """The parts with numbers above `after`, in their order, at least `limit` of them where there are so many."""

    @abstractmethod
    async def find(self, key: str) -> Found:
        """The object as it is now. Raises `NotFound`."""

    @abstractmethod
    async def claim(self, begun: B, parts: Sequence[H]) -> tuple[B, J]:
        """Claim the upload, and make its parts ready. Raises `Conflict`, `NoSuchUpload`."""

    @abstractmethod
    async def publish(self, claimed: B, joined: J, kept: Kept, condition: Condition) -> ObjectInfo:
        """Make the object, with `kept` noted. Raises what `Multipart.complete` does."""

    @abstractmethod
    async def release(self, claimed: B) -> None:
        """Take a claim back."""

    @abstractmethod
    async def drop(self, begun: B) -> None:
        """Remove an upload to which nothing happened since it was seen so. Raises `Conflict`, `NoSuchUpload`."""

    @abstractmethod
    def uploads(self) -> AsyncIterator[Upload]:
        """All that are described, in any order."""

    @abstractmethod
    async def sweep(self) -> None:
        """Drop what is too old, and what calls that were ended left behind."""


class CloudUploads(Multipart, Generic[B, H, J]):
    """The uploads of one bucket."""

    def __init__(self, steps: Steps[B, H, J], clock: Clock, min_part_bytes: int, read: Read) -> None:
        self._steps = steps
        self._clock = clock
        self._min_part_bytes = min_part_bytes
        self._read = read
        self._sweeper = Sweeper(steps.sweep, clock.monotonic)

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        if not can_keep(checksum, checksum_type):
            raise Unsupported(f"{key!r}: no {checksum_type} {checksum} of parts can be kept", path=key)
        upload = new_upload(key, self._clock.time(), checksum, checksum_type)
        await self._steps.begin(upload, attributes)
        self._sweeper.sweep_if_due()
        return upload

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        check_number(upload.key, number)
        return await self._steps.put(await self._begun(upload), number, body)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        check_number(upload.key, number)
        begun = await self._begun(upload)
        check_within(byte_range, source)
        copied = await self._steps.copy(begun, number, source, byte_range)
        if copied is not None:
            return copied
        return await self._steps.put(begun, number, ReadingBody(await self._read(source.key, byte_range, source.version)))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        begun = await self._begun(upload)
        found = [held.part for held in await self._steps.held(begun, after=after, limit=limit + 1)]
        return PartListing(begun.upload, tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        kept = await self.made_from(info)
        if len(kept.part_sizes) != kept.parts:
            raise Unsupported(f"{info.key!r}: it has too many parts of different sizes to remember them", path=info.key)
        return kept.named_parts()[after : after + limit]

    async def made_from(self, info: ObjectInfo) -> Kept:
        """What was noted with exactly that version. Raises `VersionChanged`, `NotFound`."""
        found = await self._steps.find(info.key)
        if found.info.version != info.version:
            raise VersionChanged(f"{info.key!r} is now {found.info.version.token}, not {info.version.token}", path=info.key)
        return found.kept

    async def part_of(self, info: ObjectInfo, number: int) -> ByteRange | None:
        """`Store.part` for an object of several parts that are remembered; else None."""
        if info.parts <= 1 or number > info.parts:
            return None
        return part_bounds((await self.made_from(info)).part_sizes, number)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        try:
            begun = await self._begun(upload)
            if begun.claimed_s:
                done = await self._completed(upload, parts)
                if done is not None:
                    await self._forget(begun)
                    return done
            return await self._complete(begun, parts, condition, checksums)
        except NoSuchUpload:
            # Another call may have completed it meanwhile.
            done = await self._completed(upload, parts)
            if done is None:
                raise
            return done

    async def abort(self, upload: Upload) -> None:
        begun = await self._begun(upload)
        self._check_claim(begun)
        await self._steps.drop(begun)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        check_text(prefix)
        behind = None if after is None else upload_order(after)
        uploads = [upload async for upload in self._steps.uploads()]
        wanted = [u for u in uploads if u.key.startswith(prefix) and (behind is None or upload_order(u) > behind)]
        found = nsmallest(limit + 1, wanted, key=upload_order)
        return UploadListing(tuple(found[:limit]), found[limit - 1] if len(found) > limit else None)

    async def close(self) -> None:
        """End what runs beside."""
        await self._sweeper.close()

    async def _complete(self, begun: B, parts: tuple[Part, ...], condition: Condition, checksums: Pairs) -> ObjectInfo:
        upload = begun.upload
        self._check_claim(begun)
        held = {one.part.number: one for one in await self._steps.held(begun, after=0, limit=MAX_PART_NUMBER)}
        chosen = named_parts(upload.key, parts, [one.part for one in held.values()], self._min_part_bytes)
        sums = parts_checksums(upload.checksum, upload.checksum_type, chosen)
        check_checksums(upload.key, checksums, sums)
        if condition:  # refused before anything is joined
            found = await self._look(upload.key)
            check_condition(condition, None if found is None else found.info, upload.key)
        kept = kept_of_parts(chosen, upload.checksum, sums, fingerprint(upload.id, parts))
        claimed, joined = await self._steps.claim(begun, [held[part.number] for part in chosen])
        try:
            info = await self._steps.publish(claimed, joined, kept, condition)
        except Unavailable as error:
            done = None if isinstance(error, Throttled) else await self._outcome(upload, parts)
            if done is None:
                await self._release(claimed)
                raise
            info = done
        except HeadraceError:
            await self._release(claimed)
            raise
        await self._forget(claimed)
        return info

    async def _outcome(self, upload: Upload, parts: tuple[Part, ...]) -> ObjectInfo | None:
        try:
            return await self._completed(upload, parts)
        except HeadraceError:
            return None  # what went wrong first is told

    async def _completed(self, upload: Upload, parts: tuple[Part, ...]) -> ObjectInfo | None:
        """The object, as long as it is the one that completing the upload with these parts made."""
        found = await self._look(upload.key)
        return found.info if found is not None and found.kept.upload == fingerprint(upload.id, parts) else None

    async def _look(self, key: str) -> Found | None:
        try:
            return await self._steps.find(key)
        except NotFound:
            return None

    async def _begun(self, upload: Upload) -> B:
        check_id(upload)
        found = await self._steps.begun(upload)
        if found is None or found.upload.key != upload.key:
            raise no_such(upload)
        return found

    def _check_claim(self, begun: B) -> None:
        if begun.claimed_s and self._clock.time() - begun.claimed_s < self._steps.claim_s:
            raise Conflict(f"{begun.upload.key!r}: another call is completing this upload", path=begun.upload.key)

    async def _release(self, claimed: B) -> None:
        with suppress(HeadraceError):  # what went wrong first is told, and the claim ends by itself
            await self._steps.release(claimed)

    async def _forget(self, begun: B) -> None:
        with suppress(HeadraceError):  # the object is there; the rest is swept
            await self._steps.drop(begun)
