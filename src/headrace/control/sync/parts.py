"""A long object on its way to the other side: in parts, several at once, gone on with after a break."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from contextlib import suppress

from headrace.control.sync.notes import Note, Notes
from headrace.model.errors import CorruptData, HeadraceError, NoSuchUpload, Unavailable
from headrace.model.reading import Buffer
from headrace.model.uploads import Part, Upload
from headrace.model.writing import Attributes, BytesBody
from headrace.namespace.uploads import NamespaceUploads
from headrace.stores.parts import parts_etag

_PARTS_PER_PAGE = 1000


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
        self._digests: dict[int, str] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def begin(self, attributes: Attributes, version: str) -> None:
        """A new upload, or the one that was broken off while it sent the same version."""
        note = await asyncio.to_thread(self._notes.read, self._path) if self._notes is not None else None
        if note is not None and await self._go_on(note, version):
            return
        self._upload = await self._uploads.begin(self._path, attributes)
        if self._notes is not None:
            await asyncio.to_thread(self._notes.write, self._path, Note(self._upload, version))

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

    async def sent(self) -> tuple[tuple[Part, ...], str]:
        """All parts, when the store has them, and the ETag that they make where those are MD5s."""
        while self._sending:
            await asyncio.wait(self._sending)
        self.check()
        numbers = sorted(self._parts)
        return tuple([self._parts[n] for n in numbers]), parts_etag([Part(n, self._digests[n]) for n in numbers])

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
            digest = await asyncio.to_thread(_md5, data)
            self._digests[number] = digest.hex()
            part = self._held.get(number)
            if part is None or part.size != len(data) or part.etag != digest.hex():
                body = BytesBody(data, (("md5", b64encode(digest).decode()),))
                part = await self._uploads.put(self.upload, number, body)
            self._parts[number] = part
        except Exception as error:  # noqa: BLE001  whatever it is: raised by whoever waits for the parts
            self._failure = self._failure or error

    def _sent(self, task: asyncio.Task[None]) -> None:
        # Not in the task itself: one that is cancelled before it begins never comes to its `finally`.
        self._sending.discard(task)
        self._room.release()


def _md5(data: Buffer) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def check_sum(path: str, wanted: str, found: str) -> None:
    """Raises `CorruptData` unless the bytes that came have the checksum that their store told."""
    if wanted != found:
        raise CorruptData(f"{path}: the bytes that came have the checksum {found}, not {wanted}: nothing was written", path=path)
