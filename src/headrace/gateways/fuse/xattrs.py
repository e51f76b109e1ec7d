"""Extended attributes: what the namespace knows of an object, for reading, and `user.` ones of programs, kept in its metadata.

The form is s3fs-fuse's: one metadata entry, a URL-quoted JSON object of names and base64 values. What stores take as metadata is
some 2 KB in all, so little fits.
"""

from __future__ import annotations

import base64
import binascii
import errno
from urllib.parse import quote, unquote

import msgspec

from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.saving import save_metadata
from headrace.gateways.fuse.shared import Refused, Shared
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Pairs

METADATA_NAME = "xattr"
_OWN = "user.headrace."
_MAX_BYTES = 1536
_CREATE, _REPLACE = 1, 2

Xattrs = dict[str, bytes]


def xattr(inode: Inode, name: bytes) -> bytes:
    """Raises `Refused` with ENODATA for one that there is not."""
    value = _all(inode).get(name.decode(errors="surrogateescape"))
    if value is None:
        raise Refused(errno.ENODATA)
    return value


def list_xattrs(inode: Inode) -> bytes:
    return b"".join(name.encode(errors="surrogateescape") + b"\0" for name in _all(inode))


async def set_xattr(shared: Shared, inode: Inode, raw: bytes, value: bytes, flags: int) -> None:
    """Keep one more. Raises `Refused` with ENOSPC where the metadata has no room, and what copying at the store raises."""
    name = _settable(inode, raw)
    kept = decoded(inode.metadata)
    if flags & _CREATE and name in kept:
        raise Refused(errno.EEXIST)
    if flags & _REPLACE and name not in kept:
        raise Refused(errno.ENODATA)
    await save_metadata(shared, inode, _with(inode.metadata, {**kept, name: value}))


async def remove_xattr(shared: Shared, inode: Inode, raw: bytes) -> None:
    name = _settable(inode, raw)
    kept = decoded(inode.metadata)
    if kept.pop(name, None) is None:
        raise Refused(errno.ENODATA)
    await save_metadata(shared, inode, _with(inode.metadata, kept))


def decoded(metadata: Pairs) -> Xattrs:
    """What an object's metadata keep; what cannot be read there is none. Pure."""
    text = dict(metadata).get(METADATA_NAME, "")
    try:
        found = msgspec.json.decode(unquote(text), type=dict[str, str])
        return {name: base64.b64decode(value, validate=True) for name, value in found.items()}
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return {}


def _with(metadata: Pairs, xattrs: Xattrs) -> Pairs:
    rest = tuple(pair for pair in metadata if pair[0] != METADATA_NAME)
    if not xattrs:
        return rest
    text = quote(msgspec.json.encode({name: base64.b64encode(value).decode() for name, value in sorted(xattrs.items())}))
    if len(text) > _MAX_BYTES:
        raise Refused(errno.ENOSPC)
    return (*rest, (METADATA_NAME, text))


def _settable(inode: Inode, raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise Refused(errno.EILSEQ) from None
    if name.startswith(_OWN):
        raise Refused(errno.EPERM)
    if not name.startswith("user.") or inode.is_directory:
        raise Refused(errno.EOPNOTSUPP)
    return name


def _all(inode: Inode) -> Xattrs:
    kept = decoded(inode.metadata)
    return kept | (_known(inode.info) if inode.info is not None else {})


def _known(info: ObjectInfo) -> Xattrs:
    known = {
        "etag": info.etag,
        "version": info.version.token,
        "content-type": info.content_type,
        **{f"meta.{name}": value for name, value in info.metadata if name != METADATA_NAME},
    }
    return {f"{_OWN}{name}": value.encode() for name, value in known.items() if value}
