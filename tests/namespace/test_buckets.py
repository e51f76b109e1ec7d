"""Buckets of the namespace: which there are, and whose may be made and removed."""

from __future__ import annotations

import pytest

from headrace.model.errors import AccessDenied, ReadOnly
from headrace.model.mounts import MountSpec, WriteMode
from headrace.namespace.buckets import NamespaceBuckets
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.stores.memory import MemoryStore


def mount(path: str, *keys: str, create_buckets: bool = False, write: WriteMode = WriteMode.NONE) -> Mount:
    store = MemoryStore()
    for key in keys:
        store.put(key, key.encode())
    return Mount(path, MountSpec(path=path, create_buckets=create_buckets, write=write), store)


def buckets(*mounts: Mount) -> NamespaceBuckets:
    return NamespaceBuckets(Namespace(MountTable(mounts)))


async def test_buckets_are_first_components_of_mounts_and_of_an_account_mount() -> None:
    found = buckets(mount("/", "alpha/x", "beta/y", "zeta/z"), mount("/beta", "q"), mount("/deep/er"))
    assert [one.name for one in await found.list()] == ["alpha", "beta", "deep", "zeta"]
    assert await found.has("alpha")
    assert await found.has("deep")
    assert not await found.has("nope")
    assert [name for name in ("alpha", "beta", "deep", "zeta") if found.is_mounted(name)] == ["beta", "deep"]


async def test_a_namespace_without_mounts_has_no_buckets() -> None:
    found = buckets()
    assert await found.list() == ()
    assert not await found.has("any")


async def test_only_buckets_of_an_account_that_allows_it_are_made_and_removed() -> None:
    for found in (buckets(), buckets(mount("/")), buckets(mount("/", create_buckets=True), mount("/name"))):
        with pytest.raises(AccessDenied):
            await found.create("name")
        with pytest.raises(AccessDenied):
            await found.delete("name")
    with pytest.raises(ReadOnly):
        await buckets(mount("/", create_buckets=True)).create("name")
    allowed = mount("/", create_buckets=True, write=WriteMode.THROUGH)
    assert buckets(allowed).account("name") is allowed
