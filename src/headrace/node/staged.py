"""What waits to reach its store, for operators: how much, since when, why, and which writes met another's."""

from __future__ import annotations

from headrace.control.node_view import StagedConflict, StagedWrites
from headrace.model.errors import NotFound
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount
from headrace.staging.store import StagedStore
from headrace.wiring import staging_of

_MAX_CONFLICTS = 500


def staged_below(namespace: Namespace, path: str) -> StagedWrites:
    """All that is staged at or below `path`, as this process knows it. Raises `NotFound` where nothing is mounted."""
    table, plain = namespace.table, path.rstrip("/") or "/"
    mount = table.find(plain)
    below = table.below(plain)
    if mount is None and not below:
        raise NotFound(f"nothing is mounted at {path}: see `headrace mount ls`", path=path)
    found = StagedWrites()
    if mount is not None:
        key = table.resolve(plain).key
        for store in staging_of(mount.store):
            found = found.plus(_staged(mount, store, key))
    for deeper in below:
        for store in staging_of(deeper.store):
            found = found.plus(_staged(deeper, store, ""))
    return found


def staged_in(mount: Mount) -> StagedWrites | None:
    """What a mount's journals hold; None for a mount without."""
    journals = staging_of(mount.store)
    if not journals:
        return None
    found = StagedWrites()
    for store in journals:
        found = found.plus(_staged(mount, store, ""))
    return found


async def settle(namespace: Namespace, conflict: StagedConflict, *, ours: bool) -> None:
    """`NodeView.settle`."""
    target = namespace.resolve(conflict.path)
    for store in staging_of(target.mount.store):
        if any(_path(target.mount, known.key) == conflict.path for known in store.conflicts.open()):
            kept = conflict.kept_as[len(conflict.path) - len(target.key) :]
            await store.conflicts.settle(target.key, kept, ours=ours)
            return
    raise NotFound(f"{conflict.path} is in no conflict: see `headrace conflicts`", path=conflict.path)


def _staged(mount: Mount, store: StagedStore, key: str) -> StagedWrites:
    standing = store.standing(key)
    conflicts = tuple(
        StagedConflict(_path(mount, known.key), _path(mount, known.kept_as) if known.kept_as else "", known.noticed_s)
        for known in store.conflicts.open()
        if not key or known.key == key or known.key.startswith(key + "/")
    )
    return StagedWrites(standing.writes, standing.bytes, standing.oldest_s, standing.error, conflicts[:_MAX_CONFLICTS])


def _path(mount: Mount, key: str) -> str:
    return f"/{key}" if mount.path == "/" else f"{mount.path}/{key}"
