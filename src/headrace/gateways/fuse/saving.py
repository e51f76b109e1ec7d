"""From a file that is open for writing to an object in its store."""

from __future__ import annotations

import logging
import time

import msgspec

from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.modes import Modes, metadata_with, modes_of
from headrace.gateways.fuse.shared import Shared
from headrace.gateways.fuse.staged import StagedFile
from headrace.gateways.sending import send_file
from headrace.gateways.writing import ABSENT, Outgoing
from headrace.model.errors import ConditionFailed, CorruptData, NotFound, ResidencyRefused, Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Condition, Pairs, attributes_of

_log = logging.getLogger(__name__)


async def stage(shared: Shared, inode: Inode, *, empty: bool) -> StagedFile:
    """The staged file of `inode`, which has the object's bytes unless it is to be `empty`.

    Raises `ReadOnly`, `NoSpace`, `ResidencyRefused`, and what reading raises.
    """
    async with inode.busy:
        staged = inode.staged
        if staged is None:
            staged = await _staged(shared, inode, empty=empty)
            inode.staged = staged
        elif empty:
            staged.resize(0)
        return staged


async def _staged(shared: Shared, inode: Inode, *, empty: bool) -> StagedFile:
    path = inode.path
    check_may_stage(shared, path)
    info = inode.info
    if empty or info is None or not info.size:
        staged = shared.area.new()
        if info is not None and not info.size and not empty:
            staged.set_mtime(inode.modes.mtime_ns)
            staged.stored(staged.state)
        return staged
    staged = shared.area.new(info.size)
    try:
        await staged.fill(await shared.namespace.read("/" + path, version=info.version), inode.modes.mtime_ns)
    except BaseException:  # whatever it is: tidied up here, raised on
        staged.close()
        raise
    return staged


def check_may_stage(shared: Shared, path: str) -> None:
    """Raises `ReadOnly` where the mount takes no writes, and `ResidencyRefused` where they may not lie on a disk first."""
    shared.namespace.writable("/" + path)
    if not shared.writes_to_disk(path):
        raise ResidencyRefused(
            f'/{path}: files that are written here lie on a disk until they are closed, and residency = "disk" is not set on the '
            "mount: write through S3 or Python",
            path=path,
        )


async def save(shared: Shared, inode: Inode) -> None:
    """Bring what was written to the store; nothing where it has it already, or where the file was removed.

    Raises what writing raises. When another wrote there meanwhile, the bytes are stored beside it under a `.conflict-` name
    and `ConditionFailed` is raised.
    """
    async with inode.busy:
        staged = inode.staged
        if staged is None or inode.parent is None or not staged.changed:
            return
        state = staged.state
        attributes = await attributes_for(shared, inode, staged.mtime_ns)
        base = ABSENT if inode.info is None else Condition(if_match=inode.info.etag) if inode.info.etag else ALWAYS
        try:
            info = await _send(shared, inode.path, staged, attributes, base)
        except (ConditionFailed, FileExistsError) as error:
            await _set_aside(shared, inode, staged, attributes)
            raise ConditionFailed(f"/{inode.path} was written by another meanwhile", path=inode.path) from error
        staged.stored(state)
        staged.new_modes = False
        stored_as(inode, info, shared, mtime_ns=state[1])


def stored_as(inode: Inode, info: ObjectInfo, shared: Shared, *, mtime_ns: int) -> None:
    """`inode` is the object `info` now."""
    inode.info, inode.new_metadata = info, None
    mtime_ns = mtime_ns or modes_of(info, shared.options.defaults).mtime_ns
    inode.modes = msgspec.structs.replace(inode.modes, mtime_ns=mtime_ns)


async def attributes_for(shared: Shared, inode: Inode, mtime_ns: int) -> Attributes:
    """What is kept with the bytes: all that the object has already, and the inode's modes."""
    modes = msgspec.structs.replace(inode.modes, mtime_ns=mtime_ns)
    kept = PLAIN
    if inode.info is not None:
        tags = await shared.namespace.tags("/" + inode.path) if inode.info.tag_count else ()
        kept = attributes_of(inode.info, tags)
    return Attributes(kept.content_type, kept.headers, metadata_with(inode.metadata, modes), kept.tags)


async def save_modes(shared: Shared, inode: Inode, modes: Modes) -> None:
    """Keep `modes` with the object. A file that is open for writing keeps them when it is stored. Raises as `Store.copy`."""
    async with inode.busy:
        old, inode.modes = inode.modes, modes
        if inode.staged is not None:
            inode.staged.set_mtime(modes.mtime_ns)
            inode.staged.new_modes = True
            inode.changed_ns = shared.now_ns()
            return
        try:
            await _keep(shared, inode)
        except BaseException:  # whatever it is: nothing was changed then
            inode.modes = old
            raise


async def save_metadata(shared: Shared, inode: Inode, metadata: Pairs) -> None:
    """Keep `metadata` with the object, as `save_modes` does."""
    async with inode.busy:
        old, inode.new_metadata = inode.new_metadata, metadata
        if inode.staged is not None:
            inode.staged.new_modes = True
            inode.changed_ns = shared.now_ns()
            return
        try:
            await _keep(shared, inode)
        except BaseException:  # whatever it is: nothing was changed then
            inode.new_metadata = old
            raise


async def _keep(shared: Shared, inode: Inode) -> None:
    if inode.parent is not None and inode.info is not None:
        mtime_ns = inode.modes.mtime_ns
        info = await _copied(shared, inode, await attributes_for(shared, inode, mtime_ns))
        stored_as(inode, info, shared, mtime_ns=mtime_ns)
    inode.changed_ns = shared.now_ns()


async def _copied(shared: Shared, inode: Inode, attributes: Attributes) -> ObjectInfo:
    info = inode.info
    if info is None:
        raise NotFound(f"/{inode.path} is not stored", path=inode.path)
    try:
        return await shared.namespace.copy(info, "/" + inode.path, attributes, condition=Condition(if_match=info.etag))
    except Unsupported:
        return await shared.namespace.copy(info, "/" + inode.path, attributes)


async def _send(shared: Shared, path: str, staged: StagedFile, attributes: Attributes, condition: Condition) -> ObjectInfo:
    mount = shared.namespace.writable("/" + path).mount.path
    if mount in shared.unconditional:
        condition = ALWAYS
    try:
        return await _sent(shared, path, staged, attributes, condition)
    except Unsupported:
        if not condition:
            raise
        _log.warning("%s cannot prove conditions: of two writers of one file there the later wins", mount)
        shared.unconditional.add(mount)
        return await _sent(shared, path, staged, attributes, ALWAYS)


async def _sent(shared: Shared, path: str, staged: StagedFile, attributes: Attributes, condition: Condition) -> ObjectInfo:
    made = Outgoing(shared.namespace, path, attributes, condition=condition)
    try:
        await send_file(made, staged.path)
        return await made.publish()
    except CorruptData:
        # Somebody goes on writing: what is stored is what it was at one moment.
        copy = await staged.snapshot(shared.area)
    try:
        made = Outgoing(shared.namespace, path, attributes, condition=condition)
        await send_file(made, copy.path)
        return await made.publish()
    finally:
        copy.close()


async def _set_aside(shared: Shared, inode: Inode, staged: StagedFile, attributes: Attributes) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(shared.now_ns() / 1e9))
    path = f"{inode.path}.conflict-{stamp}-{inode.id}"
    await _send(shared, path, staged, attributes, ABSENT)
    staged.stored(staged.state)
    _log.warning("/%s was written by another meanwhile: what was written here is at /%s", inode.path, path)
