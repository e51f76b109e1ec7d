"""The folders of a directory store's multipart uploads: what lies in them, and what it says.

Everything here takes the root's descriptor (or a folder's), blocks, and raises `OSError`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from headrace.model.errors import CorruptData, NoSuchUpload
from headrace.model.objects import ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import Attributes
from headrace.stores.file_own import (
    COMPLETED,
    REMOVED,
    UPLOADS,
    discard,
    existing_folder,
    open_folder,
    opened_folder,
    read_whole,
    write_whole,
)

ID = re.compile(r"[0-9a-f]{48}")
DESCRIPTION = "upload"
_PART = re.compile(r"[0-9]{5}")


class Begun(msgspec.Struct, frozen=True):
    """The description of an upload."""

    upload: Upload
    attributes: Attributes


class PutPart(msgspec.Struct, frozen=True):
    """The description of a part, and the name of the file beside it that holds the bytes."""

    part: Part
    file: str


class Completed(msgspec.Struct, frozen=True):
    """What came of an upload, if the file of that name is gone from its folder: it is the object then."""

    key: str
    named: str
    """A fingerprint of the parts that were named."""
    file: str
    info: ObjectInfo


_BEGUN = msgspec.msgpack.Decoder(Begun)
_PUT_PART = msgspec.msgpack.Decoder(PutPart)
_COMPLETED = msgspec.msgpack.Decoder(Completed)


def no_such(upload: Upload) -> NoSuchUpload:
    return NoSuchUpload(f"{upload.key!r} has no upload {upload.id!r} under way", path=upload.key)


def folder_of(upload: Upload) -> str:
    """Where its parts lie. Raises `NoSuchUpload` for what cannot be an id, and so no path either."""
    if not ID.fullmatch(upload.id):
        raise no_such(upload)
    return f"{UPLOADS}/{upload.id}"


@contextmanager
def upload_folder(root_fd: int, upload: Upload) -> Iterator[int]:
    """The upload's folder, closed at the end. Raises `NoSuchUpload`."""
    try:
        descriptor = open_folder(root_fd, folder_of(upload))
    except FileNotFoundError as error:
        raise no_such(upload) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def find_begun(root_fd: int, upload: Upload) -> Begun:
    """The upload that is under way. Raises `NoSuchUpload`."""
    folder_of(upload)
    begun = _read_begun(root_fd, upload.id)
    if begun is None or begun.upload.key != upload.key or published(root_fd, upload) is not None:
        raise no_such(upload)
    return begun


def uploads_under_way(root_fd: int) -> Iterator[Upload]:
    """All uploads, in no order."""
    for begun in begun_uploads(root_fd):
        if published(root_fd, begun.upload) is None:
            yield begun.upload


def begun_uploads(root_fd: int) -> Iterator[Begun]:
    """All uploads that have a folder, also those whose object was published already."""
    try:
        folder = open_folder(root_fd, UPLOADS)
    except FileNotFoundError:
        return
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                begun = _read_begun(root_fd, entry.name) if ID.fullmatch(entry.name) else None
                if begun is not None:
                    yield begun
    finally:
        os.close(folder)


def published(root_fd: int, upload: Upload) -> Completed | None:
    """What came of an upload that was completed, as long as it is remembered."""
    folder_of(upload)
    try:
        done = _COMPLETED.decode(read_whole(root_fd, f"{COMPLETED}/{upload.id}"))
    except FileNotFoundError:
        return None
    try:
        with existing_folder(root_fd, folder_of(upload)) as folder:
            os.stat(done.file, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return done
    return None


def note(root_fd: int, upload: Upload, done: Completed) -> None:
    """Say what will have come of the upload once its file is renamed; durable when this returns."""
    with opened_folder(root_fd, COMPLETED) as folder:
        write_whole(folder, upload.id, msgspec.msgpack.encode(done))


def forget_note(root_fd: int, upload: Upload) -> None:
    try:
        with existing_folder(root_fd, COMPLETED) as folder:
            discard(folder, upload.id)
            os.fsync(folder)
    except FileNotFoundError:
        pass


def put_away(root_fd: int, upload: Upload) -> None:
    """Move the upload's folder out of the uploads, durably; removing what is in it may take its time."""
    with existing_folder(root_fd, UPLOADS) as uploads, opened_folder(root_fd, REMOVED) as removed:
        os.rename(upload.id, upload.id, src_dir_fd=uploads, dst_dir_fd=removed)
        os.fsync(uploads)


def part_numbers(folder: int) -> list[int]:
    """Numbers of the parts in an upload's folder, sorted; there are at most 10,000."""
    with os.scandir(folder) as entries:
        return sorted(int(entry.name) for entry in entries if _PART.fullmatch(entry.name))


def read_parts(folder: int, numbers: Iterable[int]) -> list[PutPart]:
    """The descriptions of those parts that are there."""
    found = (read_part(folder, number) for number in numbers)
    return [put for put in found if put is not None]


def read_part(folder: int, number: int) -> PutPart | None:
    try:
        data = read_whole(folder, f"{number:05}")
    except FileNotFoundError:
        return None
    try:
        return _PUT_PART.decode(data)
    except msgspec.MsgspecError as error:
        raise CorruptData(f"the description of part {number} of an upload cannot be read: send the part again") from error


def _read_begun(root_fd: int, name: str) -> Begun | None:
    try:
        return _BEGUN.decode(read_whole(root_fd, f"{UPLOADS}/{name}/{DESCRIPTION}"))
    except (FileNotFoundError, msgspec.MsgspecError):  # it is being begun, or its beginning was cut off
        return None
