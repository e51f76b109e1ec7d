"""Extended attributes: what the namespace knows of an object, for reading. Others are not kept."""

from __future__ import annotations

import errno

from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.shared import Refused


def xattr(inode: Inode, name: bytes) -> bytes:
    """Raises `Refused` with ENODATA for one that there is not."""
    value = _known(inode).get(name)
    if value is None:
        raise Refused(errno.ENODATA)
    return value


def list_xattrs(inode: Inode) -> bytes:
    return b"".join(name + b"\0" for name in _known(inode))


def _known(inode: Inode) -> dict[bytes, bytes]:
    info = inode.info
    if info is None:
        return {}
    known = {
        "etag": info.etag,
        "version": info.version.token,
        "content-type": info.content_type,
        **{f"meta.{name}": value for name, value in info.metadata},
    }
    return {f"user.headrace.{name}".encode(): value.encode() for name, value in known.items() if value}
