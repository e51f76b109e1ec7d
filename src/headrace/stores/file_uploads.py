"""Multipart uploads of a directory store: a folder for each below `.headrace/uploads`, a description and a file for each part.

Completing joins the parts in a file of the upload's folder, notes what comes of it, and renames that file to the object: the note
without the file means that the object was published, whatever happened afterwards. Completing and dropping an upload both hold
its key's lock.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from heapq import nsmallest

import msgspec

from headrace.model.checksums import Algorithm
from headrace.model.errors import CorruptData, InvalidPart, NoSuchUpload, Unavailable, Unsupported
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ACL_TAG, ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.file_attributes import Kept, describe, kept_with
from headrace.stores.file_new import NewFile
from headrace.stores.file_own import REMOVED, UPLOADS, check_own, discard, key_lock, opened_folder, remove_tree, write_whole
from headrace.stores.file_root import FileRoot, opened_root
from headrace.stores.file_types import content_type_of
from headrace.stores.file_upload_folders import (
    DESCRIPTION,
    Begun,
    Completed,
    PutPart,
    find_begun,
    folder_of,
    forget_note,
    no_such,
    note,
    part_numbers,
    published,
    put_away,
    read_part,
    read_parts,
    upload_folder,
    uploads_under_way,
)
from headrace.stores.file_write import Filling, open_version
from headrace.stores.keys import check_text
from headrace.stores.multipart import Multipart
from headrace.stores.parts import (
    can_keep,
    check_checksums,
    check_number,
    check_within,
    named_parts,
    parts_checksums,
    parts_etag,
    upload_order,
)
from headrace.stores.writes import TYPE


class _Joining(msgspec.Struct, frozen=True):
    """What an upload is completed from."""

    upload: Upload
    named: str
    kept: Kept
    puts: tuple[PutPart, ...]


class FileUploads(Multipart):
    """The uploads under way at one root. An id begins with its upload's time, so ids sort by it."""

    def __init__(self, root: FileRoot, min_part_bytes: int) -> None:
        self._root = root
        self._min_part_bytes = min_part_bytes

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        check_own(key)
        if not can_keep(checksum, checksum_type):
            raise Unsupported(f"{key!r}: no {checksum_type} {checksum} of parts can be kept", path=key)
        now_ns = time.time_ns()
        acl = dict(attributes.tags).get(ACL_TAG, "")
        upload = Upload(key, f"{now_ns:016x}{secrets.token_hex(16)}", now_ns / 1e9, checksum, checksum_type, acl)
        await self._root.change(partial(self._begin, Begun(upload, attributes)), key)
        return upload

    def _begin(self, begun: Begun) -> None:
        with opened_root(self._root) as root_fd, key_lock(root_fd, begun.upload.key):
            self._root.check_still(root_fd)
            with opened_folder(root_fd, f"{UPLOADS}/{begun.upload.id}") as folder:
                write_whole(folder, DESCRIPTION, msgspec.msgpack.encode(begun))

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        await self._root.change(partial(self._known, upload, number), upload.key)
        filling = Filling(self._root, upload.key, folder_of(upload))
        try:
            rest = await filling.fill(body)
            return await self._root.change(partial(self._put, upload, number, filling, rest, body), upload.key)
        finally:
            await filling.close()

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        await self._root.change(partial(self._known, upload, number), upload.key)
        check_within(byte_range, source)
        found = await self._root.change(partial(open_version, self._root, source), source.key)
        filling = Filling(self._root, upload.key, folder_of(upload))
        try:
            await self._opened(filling, upload)
            await filling.copy(found, byte_range or ByteRange(0, source.size), source.key, clone=False)
            return await self._root.change(partial(self._put, upload, number, filling, [], None), upload.key)
        finally:
            os.close(found.fd)
            await filling.close()

    def _known(self, upload: Upload, number: int) -> None:
        check_number(upload.key, number)
        with opened_root(self._root) as root_fd:
            find_begun(root_fd, upload)

    def _put(self, upload: Upload, number: int, filling: Filling, rest: list[memoryview], body: Body | None) -> Part:
        try:
            file = filling.finished(rest)
        except FileNotFoundError as error:
            raise no_such(upload) from error
        os.fsync(file.fd)
        checksums = () if body is None else tuple([pair for pair in body.checksums() if pair[0] != TYPE])
        algorithm = find_begun(file.root_fd, upload).upload.checksum
        if algorithm and algorithm not in dict(checksums):
            checksums = (*checksums, (algorithm, file.checksum(Algorithm(algorithm))))
        part = Part(number, file.md5, file.size, time.time(), checksums)
        # One lock for all puts of a part, so that each removes the file that it replaces.
        with key_lock(file.root_fd, f"{upload.id}/{number}"):
            earlier = read_part(file.folder_fd, number)
            write_whole(file.folder_fd, f"{number:05}", msgspec.msgpack.encode(PutPart(part, file.name)))
            file.name = ""
            if earlier is not None:
                discard(file.folder_fd, earlier.file)
        find_begun(file.root_fd, upload)
        return part

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        return await self._root.change(partial(self._parts, upload, after, limit), upload.key)

    def _parts(self, upload: Upload, after: int, limit: int) -> PartListing:
        with opened_root(self._root) as root_fd:
            begun = find_begun(root_fd, upload)
            with upload_folder(root_fd, upload) as folder:
                numbers = [number for number in part_numbers(folder) if number > after]
                page = tuple([put.part for put in read_parts(folder, numbers[:limit])])
        return PartListing(begun.upload, page, numbers[limit - 1] if len(numbers) > limit else None)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        found = await self._root.run(partial(open_version, self._root, info), info.key)
        os.close(found.fd)
        kept = found.kept.parts(info.modified_s) if found.kept is not None else ()
        return kept[after : after + limit]

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        try:
            return await self._join(upload, parts, condition, checksums)
        except (NoSuchUpload, InvalidPart):
            # Another call may have completed it meanwhile, and taken the parts away.
            done = await self._root.change(partial(self._done, upload, parts), upload.key)
            if done is None:
                raise
            return done

    async def _join(self, upload: Upload, parts: tuple[Part, ...], condition: Condition, checksums: Pairs) -> ObjectInfo:
        joining = await self._root.change(partial(self._plan, upload, parts, checksums), upload.key)
        if isinstance(joining, ObjectInfo):
            return joining
        filling = Filling(self._root, upload.key, folder_of(upload))
        try:
            file = await self._opened(filling, upload)
            for put in joining.puts:
                await self._root.change(partial(_append, upload, file, put), upload.key)
            return await self._root.change(partial(self._complete, joining, file, condition), upload.key)
        finally:
            await filling.close()

    def _plan(self, upload: Upload, parts: tuple[Part, ...], checksums: Pairs) -> _Joining | ObjectInfo:
        named = _fingerprint(parts)
        with opened_root(self._root) as root_fd:
            done = published(root_fd, upload)
            if done is not None:
                return _answer(upload, done, named)
            begun = find_begun(root_fd, upload)
            with upload_folder(root_fd, upload) as folder:
                puts = {put.part.number: put for put in read_parts(folder, part_numbers(folder))}
        chosen = named_parts(upload.key, parts, [put.part for put in puts.values()], self._min_part_bytes)
        sums = parts_checksums(begun.upload.checksum, begun.upload.checksum_type, chosen)
        check_checksums(upload.key, checksums, sums)
        kept = kept_with(begun.attributes, parts_etag(chosen), sums, chosen, begun.upload.checksum)
        return _Joining(upload, named, kept, tuple([puts[part.number] for part in chosen]))

    def _done(self, upload: Upload, parts: tuple[Part, ...]) -> ObjectInfo | None:
        with opened_root(self._root) as root_fd:
            done = published(root_fd, upload)
            if done is None:
                find_begun(root_fd, upload)
                return None
        return _answer(upload, done, _fingerprint(parts))

    async def _opened(self, filling: Filling, upload: Upload) -> NewFile:
        try:
            return await filling.opened()
        except Unavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise no_such(upload) from error
            raise

    def _complete(self, joining: _Joining, file: NewFile, condition: Condition) -> ObjectInfo:
        upload, root_fd = joining.upload, file.root_fd
        kept, beside = file.prepare(joining.kept)
        info = describe(upload.key, os.fstat(file.fd), kept, content_type_of(upload.key))
        with key_lock(root_fd, upload.key):
            self._root.check_still(root_fd)
            done = published(root_fd, upload)
            if done is not None:
                return _answer(upload, done, joining.named)
            find_begun(root_fd, upload)
            before = file.checked(upload.key, condition)
            try:
                note(root_fd, upload, Completed(upload.key, joining.named, file.name, info))
                try:
                    file.move(upload.key, kept, before, beside=beside)
                except OSError:
                    # The note goes first: without its file it would say that the object was published.
                    forget_note(root_fd, upload)
                    raise
            finally:
                if before is not None:
                    os.close(before.fd)
            put_away(root_fd, upload)
        remove_tree(root_fd, f"{REMOVED}/{upload.id}")
        return info

    async def abort(self, upload: Upload) -> None:
        await self._root.change(partial(self.abort_now, upload), upload.key)

    def abort_now(self, upload: Upload) -> None:
        """`abort`, in a thread."""
        with opened_root(self._root) as root_fd:
            with key_lock(root_fd, upload.key):
                self._root.check_still(root_fd)
                find_begun(root_fd, upload)
                forget_note(root_fd, upload)
                put_away(root_fd, upload)
            remove_tree(root_fd, f"{REMOVED}/{upload.id}")

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        check_text(prefix)
        return await self._root.run(partial(self._list, prefix, after, limit), prefix)

    def _list(self, prefix: str, after: Upload | None, limit: int) -> UploadListing:
        with opened_root(self._root) as root_fd:
            wanted = (
                upload
                for upload in uploads_under_way(root_fd)
                if upload.key.startswith(prefix) and (after is None or upload_order(upload) > upload_order(after))
            )
            found = nsmallest(limit + 1, wanted, key=upload_order)
        return UploadListing(tuple(found[:limit]), found[limit - 1] if len(found) > limit else None)


def _append(upload: Upload, file: NewFile, put: PutPart) -> None:
    try:
        descriptor = os.open(put.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=file.folder_fd)
    except FileNotFoundError as error:
        raise InvalidPart(f"{upload.key!r}: part {put.part.number} was replaced meanwhile", path=upload.key) from error
    try:
        file.clone_from(descriptor, 0, put.part.size)
    except EOFError as error:
        raise CorruptData(f"{upload.key!r}: part {put.part.number} was cut off in its folder", path=upload.key) from error
    finally:
        os.close(descriptor)


def _fingerprint(parts: Iterable[Part]) -> str:
    named = "\n".join([f"{part.number} {part.etag}" for part in parts])
    return blake2b(named.encode(), digest_size=16).hexdigest()


def _answer(upload: Upload, done: Completed, named: str) -> ObjectInfo:
    if (done.key, done.named) != (upload.key, named):
        raise no_such(upload)
    return done.info
