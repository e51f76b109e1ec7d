"""GETFILESTATUS, LISTSTATUS, LISTSTATUS_BATCH and GETCONTENTSUMMARY. Memory is bounded by a page of names."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from headrace.gateways.http.messages import Chunks, Response
from headrace.gateways.webhdfs.context import JSON_FIELDS, Call, json_response
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter, missing
from headrace.gateways.webhdfs.status import FileStatus, file_status, find, with_metadata
from headrace.model.errors import NotFound
from headrace.model.objects import CommonPrefix, Entry, ObjectInfo
from headrace.namespace.buckets import NamespaceBuckets
from headrace.namespace.merge import LAST
from headrace.policy.rules import Action

_PAGE = 1000
_AT_ONCE = 1000
"""Entries that are told in one piece; more are sent as they come."""

Named = tuple[str, ObjectInfo | None]
"""An entry of a directory; None for a directory in it."""


async def get_file_status(call: Call) -> Response:
    found = await with_metadata(call.namespace, await find(call.namespace, call.path))
    if found.info is None and not call.may(Action.LIST, listed_path(call.path)):
        raise call.refusal(Action.LIST, call.path)
    return json_response({"FileStatus": file_status(call, "", call.path, found.info, found.marker)})


async def list_status(call: Call) -> Response:
    """All of a directory, or the file itself."""
    alone = await _file_itself(call)
    if alone is not None:
        return json_response({"FileStatuses": {"FileStatus": [alone]}})
    entries = _entries(call)
    first: list[Named] = []
    async for named in entries:
        first.append(named)
        if len(first) == _AT_ONCE:
            return Response(200, JSON_FIELDS, Chunks(_told(call, first, entries)))
    return json_response({"FileStatuses": {"FileStatus": [_status(call, named) for named in first]}})


async def _told(call: Call, first: list[Named], rest: AsyncGenerator[Named]) -> AsyncGenerator[bytes]:
    try:
        yield b'{"FileStatuses":{"FileStatus":[' + b",".join([_json(call, named) for named in first])
        batch: list[bytes] = []
        async for named in rest:
            batch.append(b"," + _json(call, named))
            if len(batch) == _PAGE:
                yield b"".join(batch)
                batch = []
        yield b"".join(batch) + b"]}}"
    finally:
        await rest.aclose()


async def list_status_batch(call: Call) -> Response:
    """A page of a directory, behind the name `startafter`, in the order of keys."""
    alone = await _file_itself(call)
    names: list[FileStatus] = [] if alone is None else [alone]
    more = False
    if alone is None:
        entries = _entries(call, call.asked.get("startafter"))
        try:
            async for named in entries:
                if len(names) == _PAGE:
                    more = True
                    break
                names.append(_status(call, named))
        finally:
            await entries.aclose()
    partial = {"FileStatuses": {"FileStatus": names}}
    return json_response({"DirectoryListing": {"partialListing": partial, "remainingEntries": int(more)}})


class _Summary(msgspec.Struct, rename="camel"):
    directory_count: int = 0
    file_count: int = 0
    length: int = 0
    quota: int = -1
    space_consumed: int = 0
    space_quota: int = -1


async def get_content_summary(call: Call) -> Response:
    """Counts of all at or below the path that the caller may list."""
    found = await find(call.namespace, call.path)
    told = _Summary()
    if found.info is not None:
        told.file_count, told.length = 1, found.info.size
    else:
        told.directory_count = 1
        seen: list[str] = []
        async for names, info in below(call):
            same = 0
            while same < min(len(seen), len(names) - 1) and seen[same] == names[same]:
                same += 1
            told.directory_count += len(names) - 1 - same
            seen = names[:-1]
            if names[-1]:
                told.file_count += 1
                told.length += info.size
    told.space_consumed = told.length
    return json_response({"ContentSummary": told})


async def below(call: Call) -> AsyncIterator[tuple[list[str], ObjectInfo]]:
    """Every object below a directory: its names relative to it, and what it is with its whole path as its key.

    The last name is empty for a mark. What has no path in HDFS, or may not be listed by the caller, is left out.
    """
    bucket, _, key = call.path[1:].partition("/")
    root, prefix = (f"/{bucket}", f"{key}/" if key else "") if bucket else ("/", "")
    filtered = _filtered(call, call.path)
    after: str | None = ""
    base = root.rstrip("/") + "/"
    while after is not None:
        page = await call.namespace.list(root, prefix, after=after, limit=_PAGE)
        for entry in page.entries:
            names = entry.key[len(prefix) :].split("/")
            if not isinstance(entry, ObjectInfo) or not all(_showable(name) for name in names[:-1]) or names[-1] in (".", ".."):
                continue
            if names == [""] or (filtered and not call.may(Action.LIST, base + entry.key)):
                continue
            yield names, msgspec.structs.replace(entry, key=base + entry.key)
        after = page.after


async def _file_itself(call: Call) -> FileStatus | None:
    """The status of what is no directory. Raises `HdfsError` where a directory may not be listed."""
    bucket, _, key = call.path[1:].partition("/")
    if bucket and key:
        try:
            info = await call.namespace.info(call.path)
        except NotFound:
            return None
        return file_status(call, "", call.path, info)
    return None


async def _entries(call: Call, start_after: str = "") -> AsyncGenerator[Named]:
    """What the caller may see directly below a directory. Raises `HdfsError` where there is none."""
    if "/" in start_after:
        raise bad_parameter("startAfter", "it is not a name")
    if call.path == "/":
        for bucket in await NamespaceBuckets(call.namespace).list():
            if bucket.name > start_after and call.may(Action.LIST, f"/{bucket.name}"):
                yield bucket.name, None
        return
    bucket_name, _, key = call.path[1:].partition("/")
    root, prefix = f"/{bucket_name}", f"{key}/" if key else ""
    filtered = _filtered(call, call.path)
    objects: set[str] = set()
    after: str | None = ""
    if start_after:
        after, objects = await _behind(call, prefix, start_after)
    nothing = not start_after
    while after is not None:
        try:
            page = await call.namespace.list(root, prefix, delimiter="/", after=after, limit=_PAGE)
        except NotFound:
            raise missing(call.path) from None
        nothing = nothing and not page.entries
        for entry in page.entries:
            name = entry.key[len(prefix) :].removesuffix("/") if isinstance(entry, CommonPrefix) else entry.key[len(prefix) :]
            if not _showable(name) or name in objects or (filtered and not call.may(Action.LIST, f"{root}/{entry.key}")):
                continue
            # An object of that name was told on an earlier page, with names in between that the directory sorts behind.
            if name != start_after and start_after.startswith(name) and await _is_object(call, name):
                continue
            if isinstance(entry, ObjectInfo):
                # Only a directory that sorts behind it can have the same name, within what a name may add.
                objects = {one for one in objects if one + "/" > name} | {name}
            yield name, _object(entry)
        after = page.after
    if nothing and (key or not await NamespaceBuckets(call.namespace).has(bucket_name)):
        raise missing(call.path)


async def _behind(call: Call, prefix: str, name: str) -> tuple[str, set[str]]:
    """Where the listing goes on behind an entry that was told last, and which name is an object's."""
    if not _showable(name):
        raise HdfsError("IllegalArgumentException", 'Invalid value for webhdfs parameter "startAfter": it is not a name')
    return (prefix + name, {name}) if await _is_object(call, name) else (f"{prefix}{name}/{LAST}", set())


async def _is_object(call: Call, name: str) -> bool:
    try:
        await call.namespace.info(f"{call.path}/{name}")
    except NotFound:
        return False
    return True


def _filtered(call: Call, path: str) -> bool:
    return call.policy.denies_below(call.who.caller, Action.LIST, listed_path(path)) or call.who.caller.anonymous


def listed_path(path: str) -> str:
    """The path that is decided on when a directory is listed: what lies in it begins so."""
    return path if path.count("/") < 2 else path + "/"


def _object(entry: Entry) -> ObjectInfo | None:
    return entry if isinstance(entry, ObjectInfo) else None


def _showable(name: str) -> bool:
    return name not in ("", ".", "..") and "\0" not in name


def _status(call: Call, named: Named) -> FileStatus:
    name, info = named
    return file_status(call, name, f"{call.path.rstrip('/')}/{name}", info)


def _json(call: Call, named: Named) -> bytes:
    return msgspec.json.encode(_status(call, named))
