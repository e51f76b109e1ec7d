"""The immutable table of mounts: which store answers for a path."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headrace.model.errors import NotFound, SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores.store import Store

_MAX_PATH_BYTES = 1024 + 1 + 255


class Mount(msgspec.Struct, frozen=True):
    """A store attached at `path`. Keys of the store are the paths below it, without the slash between."""

    path: str
    spec: MountSpec
    store: Store

    @property
    def name(self) -> str:
        return self.path


class Target(msgspec.Struct, frozen=True):
    """Where a path leads: the mount that answers and the key within its store."""

    mount: Mount
    key: str


def check_mount_path(path: str) -> None:
    """Raises `SettingsError` unless `path` is `/` or `/name[/name…]` with usable names."""
    if path == "/":
        return
    names = path.split("/")
    if not path.startswith("/") or any(name in ("", ".", "..") for name in names[1:]):
        raise SettingsError(f"mount path {path!r}: write / or /bucket or /bucket/deeper, without a slash at the end", path=path)
    if len(path.encode()) > _MAX_PATH_BYTES or any(ord(ch) < 32 for ch in path):
        raise SettingsError(f"mount path {path!r} is too long or holds control characters", path=path)


class MountTable:
    """All mounts at one moment. A change makes a new table; readers keep the one they began with."""

    def __init__(self, mounts: Iterable[Mount] = ()) -> None:
        self._by_path: dict[str, Mount] = {}
        for mount in mounts:
            check_mount_path(mount.path)
            if mount.path in self._by_path:
                raise SettingsError(f"two mounts at {mount.path}: join them into one union mount, or move one", path=mount.path)
            self._by_path[mount.path] = mount
        self._root = self._by_path.get("/")
        self._depth = max((path.count("/") for path in self._by_path if path != "/"), default=0)

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return tuple(self._by_path[path] for path in sorted(self._by_path))

    def resolve(self, path: str) -> Target:
        """The deepest mount that covers `path`, and the key below it. Raises `NotFound` where no mount does."""
        best = self._root
        end = 0
        for _ in range(self._depth):
            end = path.find("/", end + 1)
            mount = self._by_path.get(path if end < 0 else path[:end])
            if mount is not None:
                best = mount
            if end < 0:
                break
        if best is None:
            raise NotFound(f"nothing is mounted at {path}: see `headrace mount ls`", path=path)
        return Target(best, path[1:] if best is self._root else path[len(best.path) + 1 :])

    def find(self, path: str) -> Mount | None:
        """The mount that covers `path`, or None."""
        try:
            return self.resolve(path).mount
        except NotFound:
            return None

    def below(self, path: str) -> tuple[Mount, ...]:
        """Mounts strictly below `path`, shallow ones first."""
        prefix = "/" if path == "/" else path + "/"
        found = [m for p, m in self._by_path.items() if p.startswith(prefix) and p != path]
        return tuple(sorted(found, key=lambda m: (m.path.count("/"), m.path)))
