"""A long object on its way to the other side: in parts, several at once, gone on with after a break."""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import suppress

import msgspec

from headrace.control.sync.notes import Note, Notes
from headrace.model.checksums import Algorithm, ChecksumType, PartSum, checksum, of_parts
from headrace.model.errors import CorruptData, HeadraceError, NoSuchUpload, Unavailable, Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.uploads import Part, Upload
from headrace.model.writing import Attributes, BytesBody
from headrace.namespace.uploads import NamespaceUploads
from headrace.stores.parts import parts_etag

_PARTS_PER_PAGE = 1000
_MD5 = re.compile("[0-9a-f]{32}")
# A twentieth of an MD5's cost, and the one that S3 keeps of a whole object.
_SUM = Algorithm.CRC64NVME


class PartsOut:
    """One multipart upload. `room` bounds the parts that a process holds: take a place before there is data for `add`."""

    def __init__(self, uploads: NamespaceUploads, path: str, room: asyncio.Semaphore, notes: Notes | None) -> None:
        self._uploads = uploads
        self._path = path
        self._room = room
        self._notes = notes
        self._upload: Upload | None = None
        self._held: dict[int, Part] = {}
        self._parts: dict[int, Part] = {}
        self._sums: dict[int, PartSum] = {}
        self._all_proved = True
        self._sending: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def begin(self, attributes: Attributes, version: str) -> None:
        """A new upload, or the one that was broken off while it sent the same version."""
        note = await asyncio.to_thread(self._notes.read, self._path) if self._notes is not None else None
        if note is not None and await self._go_on(note, version):
            return
        self._upload = await self._begun(attributes)
        if self._notes is not None:
            await asyncio.to_thread(self._notes.write, self._path, Note(self._upload, version))

    async def _begun(self, attributes: Attributes) -> Upload:
        """With as much as the store can do of a checksum, and of tags that it keeps from the beginning."""
        begin, kind = self._uploads.begin, ChecksumType.FULL_OBJECT
        try:
            return await begin(self._path, attributes, checksum=_SUM.value, checksum_type=kind)
        except Unsupported:
            pass
        try:
            return await begin(self._path, attributes)
        except Unsupported:
            if not attributes.tags:
                raise
        return await self._begun(msgspec.structs.replace(attributes, tags=()))

    async def _go_on(self, note: Note, version: str) -> bool:
        try:
            if note.version != version:
                await self._uploads.abort(note.upload)
                return False
            after: int | None = 0
            while after is not None:
                page = await self._uploads.parts(note.upload, after=after, limit=_PARTS_PER_PAGE)
                self._held |= {part.number: part for part in page.parts}
                after = page.after
        except NoSuchUpload:
            self._held = {}
            return False
        self._upload = note.upload
        return True

    def add(self, number: int, data: Buffer) -> None:
        """Send a part, for which a place was taken, while the caller goes on. The place is given back when it is sent."""
        task = asyncio.create_task(self._send(number, data))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def check(self) -> None:
        """Raises what sending a part raised."""
        if self._failure is not None:
            raise self._failure

    async def sent(self) -> tuple[Part, ...]:
        """All parts, when the store has them."""
        while self._sending:
            await asyncio.wait(self._sending)
        self.check()
        return tuple([self._parts[number] for number in sorted(self._parts)])

    def proves(self, made: ObjectInfo) -> bool:
        """Whether what the store says of the object shows that it is these parts."""
        sums = [self._sums[number] for number in sorted(self._sums)]
        if made.size != sum([part.length for part in sums]):
            return False
        told = dict(made.checksums).get(_SUM.value)
        if told is not None:
            return told == of_parts(_SUM, ChecksumType.FULL_OBJECT, sums)
        parts = [self._parts[number] for number in sorted(self._parts)]
        is_md5 = all(_MD5.fullmatch(part.etag) for part in parts)
        return self._all_proved and is_md5 and made.etag == parts_etag(parts)

    @property
    def upload(self) -> Upload:
        if self._upload is None:
            raise ValueError(f"the upload of {self._path} was not begun")
        return self._upload

    async def published(self) -> None:
        """There is an object now."""
        if self._notes is not None:
            await asyncio.to_thread(self._notes.drop, self._path)

    async def give_up(self, error: BaseException) -> None:
        """Stop. The parts stay where another try may go on with them."""
        sending = tuple(self._sending)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        if self._notes is not None and isinstance(error, (Unavailable, asyncio.CancelledError)):
            return
        if self._upload is not None:
            with suppress(HeadraceError):  # never seen, and swept by its store
                await self._uploads.abort(self._upload)
        await self.published()

    async def _send(self, number: int, data: Buffer) -> None:
        try:
            wanted = checksum(_SUM, data)
            part = self._held.get(number)
            if part is None or part.size != len(data) or not await _is_proved(part, wanted, data):
                sums = ((_SUM.value, wanted),) if self.upload.checksum else ()
                part = await self._uploads.put(self.upload, number, BytesBody(data, sums))
                self._all_proved = self._all_proved and await _is_proved(part, wanted, data)
            self._parts[number] = part
            self._sums[number] = PartSum(wanted, len(data))
        except Exception as error:  # noqa: BLE001  whatever it is: raised by whoever waits for the parts
            self._failure = self._failure or error

    def _sent(self, task: asyncio.Task[None]) -> None:
        # Not in the task itself: one that is cancelled before it begins never comes to its `finally`.
        self._sending.discard(task)
        self._room.release()


async def _is_proved(part: Part, wanted: str, data: Buffer) -> bool:
    """Whether what the store says of a part shows that it is `data`: by the checksum `wanted`, else by the MD5 that ETags are."""
    told = dict(part.checksums).get(_SUM.value)
    if told is not None:
        return told == wanted
    return _MD5.fullmatch(part.etag) is not None and part.etag == await asyncio.to_thread(_md5, data)


def _md5(data: Buffer) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def check_sum(path: str, wanted: str, found: str) -> None:
    """Raises `CorruptData` unless the bytes that came have the checksum that their store told."""
    if wanted != found:
        raise CorruptData(f"{path}: the bytes that came have the checksum {found}, not {wanted}: nothing was written", path=path)
