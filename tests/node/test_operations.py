"""Listing, loading, freeing and pinning through whatever a path covers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.cache.settings import CacheSettings, DiskSettings
from headrace.embedded import OwnNamespace
from headrace.model.clock import SystemClock
from headrace.model.errors import NotFound
from headrace.model.mounts import MountSpec
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.node.operations import caches_of, free, hold_pin, list_page, load, pin
from headrace.wiring import Parts, build_store, open_pages

SIZES = {"a/x": 70_000, "a/y": 10, "b/z": 5, "top": 200_000}


def fill(root: Path, sizes: dict[str, int]) -> str:
    for key, size in sizes.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return f"file://{root}"


@pytest.fixture
async def namespace(tmp_path: Path) -> AsyncIterator[Namespace]:
    """`/data` with `/data/deep` mounted in it, and `/both`, a union of two stores."""
    data, deep, other = (fill(tmp_path / name, sizes) for name, sizes in (("d", SIZES), ("e", {"in": 50}), ("o", {"only": 30})))
    settings = CacheSettings(memory="0", disk=(DiskSettings("pages", "1GiB"),))
    pages = open_pages(settings, tmp_path, clock=SystemClock(), emit=lambda _: None)
    parts = Parts(SystemClock(), lambda _: None, {}, pages)
    specs = (
        MountSpec("/data", data),
        MountSpec("/data/deep", deep),
        MountSpec("/both", union=(MountSpec("/both", data), MountSpec("/both", other))),
    )
    namespace = OwnNamespace(MountTable(Mount(spec.path, spec, build_store(spec, parts)) for spec in specs), pages)
    yield namespace
    await namespace.close()


async def cached(namespace: Namespace, path: str) -> int:
    """Bytes of one object that lie in pages."""
    target = namespace.resolve(path)
    (store,) = caches_of(target.mount.store)
    return await store.cached_bytes(await store.info(target.key))


async def everything(namespace: Namespace, path: str, limit: int) -> list[str]:
    keys: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await list_page(namespace, path, after=after, limit=limit)
        assert len(page.entries) <= limit
        keys += [entry.key for entry in page.entries]
        after = page.after
    return keys


@pytest.mark.parametrize("limit", [1, 2, 1000])
async def test_a_listing_goes_below_nested_mounts_and_names_whole_paths(namespace: Namespace, limit: int) -> None:
    data = ["/data/a/x", "/data/a/y", "/data/b/z", "/data/deep/in", "/data/top"]
    both = ["/both/a/x", "/both/a/y", "/both/b/z", "/both/only", "/both/top"]
    assert await everything(namespace, "/data", limit) == data
    assert await everything(namespace, "/data/a", limit) == data[:2]
    assert await everything(namespace, "/data/a/", limit) == data[:2]
    assert await everything(namespace, "/data/top", limit) == ["/data/top"]
    assert await everything(namespace, "/", limit) == both + data


async def test_what_is_not_mounted_is_not_an_empty_listing(namespace: Namespace) -> None:
    with pytest.raises(NotFound):
        await list_page(namespace, "/absent", after="", limit=10)


async def test_a_load_answers_the_length_however_much_was_there(namespace: Namespace) -> None:
    assert await load(namespace, "/data/a/x") == 70_000
    assert await cached(namespace, "/data/a/x") == 70_000
    assert await load(namespace, "/data/a/x") == 70_000
    assert await load(namespace, "/both/only") == 30
    with pytest.raises(NotFound):
        await load(namespace, "/both/none")


async def test_freeing_a_directory_leaves_what_is_beside_it(namespace: Namespace) -> None:
    for path in ("/data/a/x", "/data/a/y", "/data/top", "/data/deep/in"):
        await load(namespace, path)
    assert await free(namespace, "/data/a", prefix=True) >= 70_010
    assert await cached(namespace, "/data/a/x") == 0
    assert await cached(namespace, "/data/top") == 200_000
    assert await cached(namespace, "/data/deep/in") == 50


async def test_freeing_a_mount_frees_the_mounts_within_it(namespace: Namespace) -> None:
    await load(namespace, "/data/a/x")
    await load(namespace, "/data/deep/in")
    await free(namespace, "/data", prefix=True)
    assert await cached(namespace, "/data/a/x") == 0
    assert await cached(namespace, "/data/deep/in") == 0


async def test_nothing_mounted_is_said_in_words(namespace: Namespace) -> None:
    with pytest.raises(NotFound, match="nothing is mounted at /absent"):
        await free(namespace, "/absent/x", prefix=False)
    with pytest.raises(NotFound, match="nothing is mounted at /absent"):
        await pin(namespace, "/absent", on=True)


async def test_a_pin_and_its_end_reach_every_mount_below(namespace: Namespace, tmp_path: Path) -> None:
    await load(namespace, "/data/a/x")
    await load(namespace, "/data/deep/in")
    await pin(namespace, "/data", on=True)
    assert len([*tmp_path.glob("pages/*.pins")]) == 2
    marks = {path for path in tmp_path.glob("pages/???/*") if path.suffix == ".pin"}
    await pin(namespace, "/data", on=False)
    assert len(marks) == 2
    assert not any(path.exists() for path in marks)


async def test_a_pin_is_held_where_it_is_not_yet(namespace: Namespace, tmp_path: Path) -> None:
    await load(namespace, "/data/a/x")
    await hold_pin(namespace, "/data/a")
    (pins,) = tmp_path.glob("pages/*.pins")
    (mark,) = (path for path in tmp_path.glob("pages/???/*") if path.suffix == ".pin")
    mark.unlink()
    before = pins.stat()
    await hold_pin(namespace, "/data/a")
    assert pins.stat() == before
    assert not mark.exists(), "what is pinned already is not gone through again"


async def test_freeing_stops_at_the_name(namespace: Namespace) -> None:
    await load(namespace, "/data/a/x")
    await load(namespace, "/data/a/y")
    (store,) = caches_of(namespace.resolve("/data").mount.store)
    assert (await store.free("a/")).objects == 2
    await load(namespace, "/data/a/x")
    for neighbour in ("a/", "a/x"):
        assert (await store.free(neighbour[:-1] + "_")).objects == 0
    assert (await store.free("to")).objects == 0
    assert (await store.free("a")).objects == 1
