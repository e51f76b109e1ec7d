"""The namespace's first components as buckets: which there are, and making and removing those of an account's mount."""

from __future__ import annotations

import msgspec

from headrace.model.errors import AccessDenied, NotFound, ReadOnly, Unsupported
from headrace.model.mounts import WriteMode
from headrace.model.objects import CommonPrefix
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount


class BucketInfo(msgspec.Struct, frozen=True):
    """A first component of the namespace, as S3 callers see it."""

    name: str
    created_s: float = 0.0
    acl: str = ""
    """What `set_acl` was given; empty: nothing."""


class NamespaceBuckets:
    """The buckets of one namespace, as S3 callers see them. Raises what the stores raise."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    async def create(self, name: str) -> None:
        """A new first component. Raises `AccessDenied` unless an account mount at `/` allows it, and as `Buckets.create`."""
        await self.account(name).store.buckets().create(name)

    async def delete(self, name: str) -> None:
        """Take an empty first component away. Raises as `create` and `Buckets.delete`."""
        await self.account(name).store.buckets().delete(name)

    async def acl(self, name: str) -> str:
        """What `set_acl` keeps with a bucket of the account that is mounted at `/`. Raises `NotFound`."""
        return (await self._account_at_root(name).store.buckets().find(name)).acl

    async def set_acl(self, name: str, acl: str) -> None:
        """`Buckets.set_acl` of a bucket of the account that is mounted at `/`."""
        await self._account_at_root(name).store.buckets().set_acl(name, acl)

    def _account_at_root(self, name: str) -> Mount:
        mount = self._namespace.table.find("/" + name)
        if mount is None or mount.path != "/":
            raise NotFound(f"/{name} is no bucket of an account", path="/" + name)
        return mount

    def is_mounted(self, name: str) -> bool:
        """Whether the first component `name` is made by a mount, and not one of the buckets of an account."""
        path = "/" + name
        mount = self._namespace.table.find(path)
        return bool(self._namespace.table.below(path)) or (mount is not None and mount.path == path)

    def account(self, name: str) -> Mount:
        """The mount whose buckets may be made and removed. Raises `AccessDenied` with the reason why `name` may not."""
        path = "/" + name
        mount = self._namespace.table.find(path)
        if mount is None or mount.path != "/" or self.is_mounted(name):
            raise AccessDenied(f"{path} is made by mounts: see `headrace mount add`", path=path)
        if not mount.spec.create_buckets:
            raise AccessDenied("the mount at / lets no buckets be made or removed: set create_buckets = true on it", path=path)
        if mount.spec.write is WriteMode.NONE:
            raise ReadOnly('/ takes no writes: set write = "through" on the mount', path=path)
        return mount

    async def list(self) -> tuple[BucketInfo, ...]:
        """First components of the namespace, sorted: mounts, and an account mount's buckets."""
        told = await self._told()
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await self._namespace.list("/", delimiter="/", after=after)
            names.extend(e.key[:-1] for e in page.entries if isinstance(e, CommonPrefix))
            after = page.after
        return tuple(told.get(name) or BucketInfo(name) for name in names)

    async def _told(self) -> dict[str, BucketInfo]:
        """What the account says of its buckets."""
        root = self._namespace.table.find("/")
        if root is None:
            return {}
        try:
            found = await root.store.buckets().list()
            return {bucket.name: BucketInfo(bucket.name, bucket.created_s, bucket.acl) for bucket in found}
        except Unsupported:
            return {}

    async def has(self, name: str) -> bool:
        """Whether `/name` exists. Raises `Unavailable` where that cannot be known now."""
        path = "/" + name
        mount = self._namespace.table.find(path)
        if self.is_mounted(name):
            return True
        if mount is None:
            return False
        key = self._namespace.table.resolve(path).key
        try:
            inside = await mount.store.list(key + "/", limit=1)
        except NotFound:
            return False
        # An empty bucket of an account is a bucket; an empty directory of a plain store is nothing.
        return bool(inside.entries) or await self._is_prefix(mount, key)

    async def _is_prefix(self, mount: Mount, name: str) -> bool:
        after: str | None = name
        while after is not None and after < name + "/":
            page = await mount.store.list(name, delimiter="/", after=after)
            if any(entry.key == name + "/" for entry in page.entries):
                return True
            after = page.after
        return False
