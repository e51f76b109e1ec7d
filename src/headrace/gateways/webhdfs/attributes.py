"""Permissions, owners and times: kept in the metadata of objects, in the form that `gateways/fuse/modes.py` describes.

An owner that is a name, not a number, is kept as `owner` and `group`. They are shown, and bind nobody: rules do that.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping

from headrace.gateways.http.messages import Response
from headrace.gateways.webhdfs.context import Call, done, json_response
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter, not_offered
from headrace.gateways.webhdfs.status import Found, find, with_metadata
from headrace.model.errors import InvalidKey, Unsupported
from headrace.model.objects import ObjectInfo, with_key
from headrace.model.writing import Attributes, BytesBody, Condition, attributes_of

_NAME = re.compile(r"[A-Za-z0-9_.@$+-]{1,64}")
_MOST_MS = 1 << 50


def made_attributes(call: Call, usual: int) -> Attributes:
    """What is kept with something new: its permission where it is not the `usual` one."""
    mode = call.asked.octal("permission")
    kind = stat.S_IFDIR if usual == 0o755 else stat.S_IFREG
    return Attributes(metadata=() if mode in (None, usual) else (("mode", str(kind | (mode or 0))),))


async def set_permission(call: Call) -> Response:
    mode = call.asked.octal("permission")
    if mode is None:
        raise bad_parameter("permission", "it is missing")
    found = await _found(call)
    kind = stat.S_IFDIR if found.info is None else stat.S_IFREG
    await keep(call, found, {"mode": str(kind | mode)})
    return done()


async def set_owner(call: Call) -> Response:
    changes: dict[str, str] = {}
    for name, number in (("owner", "uid"), ("group", "gid")):
        value = call.asked.get(name)
        if not value:
            continue
        if not _NAME.fullmatch(value):
            raise bad_parameter(name, f"{value[:64]!a} is no name")
        is_number = value.isdigit() and int(value) < 1 << 32
        changes |= {number: value, name: ""} if is_number else {name: value}
    if not changes:
        raise HdfsError("IllegalArgumentException", "Both owner and group are empty.")
    await keep(call, await _found(call), changes)
    return done()


async def set_times(call: Call) -> Response:
    changes: dict[str, str] = {}
    for name, kept in (("modificationtime", "mtime"), ("accesstime", "atime")):
        value = call.asked.number(name, -1)
        if not -1 <= value < _MOST_MS:
            raise bad_parameter(name, f"{value} is no time in milliseconds since 1970")
        if value >= 0:
            changes[kept] = f"{value // 1000}.{value % 1000:03}000000"
    if changes:
        await keep(call, await _found(call), changes)
    return done()


async def set_replication(call: Call) -> Response:
    """Nothing is replicated here, so nothing changes; HDFS says so of a directory, too."""
    await find(call.namespace, call.path)
    return json_response({"boolean": False})


async def _found(call: Call) -> Found:
    found = await with_metadata(call.namespace, await find(call.namespace, call.path))
    if call.path.count("/") < 2:
        raise not_offered(f"{call.path} is made by a mount, or is a bucket: nothing can be kept with it")
    return found


async def keep(call: Call, found: Found, changes: Mapping[str, str]) -> None:
    """Keep `changes` in the metadata of a file or in those of a directory's mark; an empty value takes a name away.

    Raises `HdfsError` where the store cannot keep it.
    """
    kept = found.info or found.marker
    path = found.path if found.info is not None else found.path + "/"
    call.namespace.writable(path)
    before = dict(kept.metadata) if kept is not None else {}
    metadata = tuple(sorted((name, value) for name, value in {**before, **changes}.items() if value))
    try:
        if kept is None:
            await call.namespace.write(path, BytesBody(b""), Attributes(metadata=metadata))
        else:
            await _rewrite(call, with_key(kept, path), metadata)
    except (InvalidKey, Unsupported):
        raise not_offered(
            f"the store behind {found.path} keeps no metadata, so no permissions, owners, times or xattrs"
        ) from None


async def _rewrite(call: Call, info: ObjectInfo, metadata: tuple[tuple[str, str], ...]) -> None:
    tags = await call.namespace.tags(info.key) if info.tag_count else ()
    whole = attributes_of(info, tags)
    attributes = Attributes(whole.content_type, whole.headers, metadata, whole.tags)
    try:
        await call.namespace.copy(info, info.key, attributes, condition=Condition(if_match=info.etag))
    except Unsupported:
        await call.namespace.copy(info, info.key, attributes)
