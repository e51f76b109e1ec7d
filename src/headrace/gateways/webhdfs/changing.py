"""MKDIRS, RENAME and DELETE."""

from __future__ import annotations

from contextlib import suppress

from headrace.gateways import changing
from headrace.gateways.http.messages import Response
from headrace.gateways.webhdfs.asked import clean_path
from headrace.gateways.webhdfs.attributes import made_attributes
from headrace.gateways.webhdfs.context import Call, json_response
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter
from headrace.gateways.webhdfs.status import Found, find
from headrace.model.errors import ConditionFailed, InvalidKey, NotFound, Unsupported
from headrace.model.objects import ObjectInfo, with_key
from headrace.model.writing import ALWAYS, Attributes, BytesBody, Condition
from headrace.namespace.buckets import NamespaceBuckets
from headrace.policy.rules import Action

MOST_MOVED = 200_000
"""Objects below a directory that are moved by one request: all of them are known before the first is removed."""
_ABSENT = Condition(if_none_match="*")


async def make_directories(call: Call) -> Response:
    """The directory and those above it are there, marked where the store can keep a mark."""
    path = call.path
    if path == "/":
        return json_response({"boolean": True})
    try:
        found = await find(call.namespace, path)
    except HdfsError:
        await check_parents(call, path)
    else:
        if found.info is not None:
            raise HdfsError("FileAlreadyExistsException", f"Path is not a directory: {path}")
        return json_response({"boolean": True})
    if path.count("/") < 2:
        await NamespaceBuckets(call.namespace).create(path[1:])
    else:
        call.namespace.writable(path)
        await _mark(call, path, made_attributes(call, 0o755).metadata)
    return json_response({"boolean": True})


async def check_parents(call: Call, path: str) -> None:
    """Raises `HdfsError` when a file lies where a directory above `path` has to be."""
    at = path.find("/", 1)
    while (at := path.find("/", at + 1)) > 0:
        with suppress(NotFound):
            await call.namespace.info(path[:at])
            raise HdfsError("ParentNotDirectoryException", f"{path[:at]} (is not a directory)")


async def _mark(call: Call, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    with suppress(InvalidKey, Unsupported):
        await call.namespace.write(path + "/", BytesBody(b""), Attributes(metadata=metadata))


async def keep_directory(call: Call, path: str) -> None:
    """A directory from which the last entry has gone stays, as in HDFS."""
    parent = path.rpartition("/")[0]
    if parent.count("/") < 2:
        return
    try:
        await find(call.namespace, parent)
    except HdfsError:
        await _mark(call, parent)


async def delete(call: Call) -> Response:
    """Whether something was removed."""
    try:
        found = await find(call.namespace, call.path)
    except HdfsError:
        return json_response({"boolean": False})
    if call.path == "/":
        raise HdfsError("AccessControlException", "/ is made by the mounts: it cannot be removed")
    recursive = call.asked.flag("recursive")
    await call.desk.to_the_end(_delete(call, found, recursive=recursive))
    return json_response({"boolean": True})


async def _delete(call: Call, found: Found, *, recursive: bool) -> None:
    path = call.path
    buckets = NamespaceBuckets(call.namespace)
    if path.count("/") < 2:
        buckets.account(path[1:])  # raises where the directory is made by a mount
    else:
        call.namespace.writable(path)
    if found.info is not None:
        await call.namespace.delete(path)
    elif recursive:
        await check_tree(call, (Action.WRITE,), path)
        _check_no_mounts(call, path)
        with suppress(NotFound):
            await changing.remove_below(call.namespace, call.key_path)
    else:
        await _check_empty(call, path)
        if path.count("/") < 2:
            await buckets.delete(path[1:])
        else:
            await call.namespace.delete(path + "/")  # the mark: what was put beside it meanwhile stays
    await keep_directory(call, path)


async def _check_empty(call: Call, path: str) -> None:
    bucket, _, key = path[1:].partition("/")
    prefix = f"{key}/" if key else ""
    page = await call.namespace.list(f"/{bucket}", prefix, limit=2)
    if any(entry.key != prefix for entry in page.entries):
        raise HdfsError("PathIsNotEmptyDirectoryException", f"`{path} is non empty': Directory is not empty")


def _check_no_mounts(call: Call, path: str) -> None:
    inside = call.namespace.table.below(path)
    if inside:
        raise HdfsError("AccessControlException", f"{inside[0].path} is a mount: what it lies in stays")


async def check_tree(call: Call, actions: tuple[Action, ...], path: str) -> None:
    """Raises the audited `HdfsError` unless the caller may do all of `actions` to everything below a directory."""
    for action in actions:
        if not call.policy.denies_below(call.who.caller, action, path + "/"):
            continue
        bucket, _, key = path[1:].partition("/")
        after: str | None = ""
        while after is not None:
            page = await call.namespace.list(f"/{bucket}", f"{key}/" if key else "", after=after)
            for entry in page.entries:
                call.require(action, f"/{bucket}/{entry.key}")
            after = page.after


async def rename(call: Call) -> Response:
    """Move a file, or everything in a directory. Not in one step: what is below has to be copied by its store."""
    target = call.asked.get("destination")
    if not target.startswith("/"):
        raise bad_parameter("destination", "it does not begin with a slash")
    target = clean_path(target)
    options = call.asked.get("renameoptions", "").upper()
    if options == "NULL":
        options = ""
    if options not in ("", "NONE", "OVERWRITE"):
        raise bad_parameter("renameoptions", f"{options[:40]!a} is neither NONE nor OVERWRITE")
    if options:
        call.require(Action.WRITE, target)
        await call.desk.to_the_end(_Move(call, target, overwrite=options == "OVERWRITE").strict())
        return Response(200, b"content-type: application/octet-stream\r\n")
    moved = await call.desk.to_the_end(_Move(call, target, overwrite=False).plain())
    return json_response({"boolean": moved})


class _Move:
    """One rename of `call.path`."""

    def __init__(self, call: Call, target: str, *, overwrite: bool) -> None:
        self._call = call
        self._namespace = call.namespace
        self._source = call.path
        self._target = target
        self._overwrite = overwrite

    async def plain(self) -> bool:
        """As `FileSystem.rename`: into a directory that is there; False where it cannot be."""
        try:
            found = await find(self._namespace, self._source)
        except HdfsError:
            return False
        there = await self._there()
        if there is not None and there.info is None:
            self._target = f"{self._target.rstrip('/')}/{self._source.rpartition('/')[2]}"
            there = await self._there()
        self._call.require(Action.WRITE, self._target)
        if self._source == self._target:
            return True
        if there is not None or self._is_below() or not await self._has_parent():
            return False
        await self._move(found)
        return True

    async def strict(self) -> None:
        """As `FileContext.rename`: raises `HdfsError` where it cannot be."""
        found = await find(self._namespace, self._source)
        there = await self._there()
        if self._source == self._target:
            raise HdfsError("FileAlreadyExistsException", f"The source {self._source} and destination are the same")
        if self._is_below():
            raise HdfsError(
                "IOException", f"Rename destination {self._target} is a directory or file under source {self._source}"
            )
        if there is not None:
            await self._make_room(found, there)
        elif not await self._has_parent():
            raise HdfsError("FileNotFoundException", f"Rename destination parent of {self._target} not found")
        await self._move(found)

    async def _make_room(self, found: Found, there: Found) -> None:
        if (found.info is None) != (there.info is None):
            raise HdfsError("IOException", f"{self._source} and {self._target} must both be directories or files")
        if not self._overwrite:
            raise HdfsError("FileAlreadyExistsException", f"rename destination {self._target} already exists")
        if there.info is None:
            try:
                await _check_empty(self._call, self._target)
            except HdfsError:
                raise HdfsError("IOException", f"rename destination directory is not empty: {self._target}") from None

    async def _there(self) -> Found | None:
        try:
            return await find(self._namespace, self._target)
        except HdfsError:
            return None

    def _is_below(self) -> bool:
        return self._source == "/" or self._target.startswith(self._source + "/")

    async def _has_parent(self) -> bool:
        parent = self._target.rpartition("/")[0] or "/"
        try:
            return (await find(self._namespace, parent)).info is None
        except HdfsError:
            return False

    async def _move(self, found: Found) -> None:
        self._check_may_move()
        self._call.require(Action.READ, self._source)
        if found.info is not None:
            await self._move_file(found.info)
        else:
            await check_tree(self._call, (Action.READ, Action.WRITE), self._source)
            _check_no_mounts(self._call, self._source)
            await changing.move_below(self._namespace, self._source[1:], self._target[1:], most=MOST_MOVED)
        await keep_directory(self._call, self._source)

    def _check_may_move(self) -> None:
        for path in (self._source, self._target):
            if path.count("/") < 2:
                raise HdfsError("AccessControlException", f"{path} is made by a mount, or is a bucket: it has that name only")
        here = self._namespace.writable(self._source).mount
        if here is not self._namespace.writable(self._target).mount:
            raise HdfsError("IOException", f"{self._source} and {self._target} lie in two mounts: copy it, then remove it")

    async def _move_file(self, info: ObjectInfo) -> None:
        source = with_key(info, self._source)
        condition = ALWAYS if self._overwrite else _ABSENT
        try:
            await self._namespace.copy(source, self._target, condition=condition)
        except ConditionFailed:
            raise HdfsError("FileAlreadyExistsException", f"rename destination {self._target} already exists") from None
        except Unsupported:
            if not condition:
                raise
            await self._namespace.copy(source, self._target)
        await changing.remove_versions(self._namespace, [source])
