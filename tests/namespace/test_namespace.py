"""The namespace: resolving, listing over nested mounts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import NotFound, SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, CommonPrefix, Listing
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.namespace.union import UnionStore
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store


def mount(path: str, store: Store) -> Mount:
    return Mount(path, MountSpec(path=path), store)


def memory(*keys: str) -> MemoryStore:
    store = MemoryStore()
    for key in keys:
        store.put(key, key.encode())
    return store


def namespace(**stores: Store) -> Namespace:
    return Namespace(MountTable([mount("/" + name.replace("__", "/"), store) for name, store in stores.items()]))


async def keys_of(ns: Namespace, root: str, prefix: str = "", delimiter: str = "", limit: int = 3) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await ns.list(root, prefix, delimiter=delimiter, after=after, limit=limit)
        assert len(page.entries) <= limit
        found.extend(entry.key for entry in page.entries)
        after = page.after
    return found


async def test_the_deepest_mount_answers_for_a_path() -> None:
    ns = namespace(sales=memory("a", "eu/hidden"), sales__eu=memory("b"))
    assert ns.resolve("/sales/a").mount.path == "/sales"
    assert (ns.resolve("/sales/eu/b").mount.path, ns.resolve("/sales/eu/b").key) == ("/sales/eu", "b")
    assert ns.resolve("/sales/eux").key == "eux"
    with pytest.raises(NotFound):
        await ns.info("/sales/eu/hidden")


async def test_a_path_that_nothing_covers_is_not_found_and_says_what_to_do() -> None:
    with pytest.raises(NotFound, match="headrace mount ls"):
        await namespace(a=memory()).info("/b/x")


async def test_keys_keep_double_slashes_and_dots_on_the_way_to_the_store() -> None:
    odd = ("a//b", "../up", "./x", "dir/", "x/../y", " ", "é", "e\u0301")
    ns = namespace(m=memory(*odd))
    for key in odd:
        info = await ns.info("/m/" + key)
        assert info.key == "/m/" + key
        reading = await ns.read("/m/" + key, ByteRange(0, 1))
        assert b"".join([bytes(b) async for b in reading]) == key.encode()[:1]


async def test_a_mount_hides_what_the_store_above_has_at_its_path() -> None:
    ns = namespace(sales=memory("a", "eu/1", "eu/2", "eu/3", "eu/4", "f"), sales__eu=memory("z"))
    assert await keys_of(ns, "/sales") == ["a", "eu/z", "f"]
    assert await keys_of(ns, "/sales", delimiter="/") == ["a", "eu/", "f"]
    assert await keys_of(ns, "/sales/eu") == ["z"]


async def test_an_empty_nested_mount_still_shows_as_a_prefix() -> None:
    ns = namespace(sales=memory("a"), sales__eu__de=memory())
    assert await keys_of(ns, "/sales", delimiter="/") == ["a", "eu/"]
    assert await keys_of(ns, "/sales", prefix="eu/", delimiter="/") == ["eu/de/"]


async def test_a_mount_path_itself_is_no_object() -> None:
    with pytest.raises(NotFound, match="is a mount"):
        await namespace(a=memory("x")).info("/a")


@pytest.mark.parametrize("path", ["", "a", "/a/", "//a", "/a//b", "/a/../b", "/.", "/a\x00b"])
def test_unusable_mount_paths_are_refused_by_name(path: str) -> None:
    with pytest.raises(SettingsError, match="mount path"):
        MountTable([mount(path, memory())])


def test_two_mounts_at_one_path_are_refused() -> None:
    with pytest.raises(SettingsError, match="two mounts at /a"):
        MountTable([mount("/a", memory()), mount("/a", memory())])


class Down(MemoryStore):
    async def info(self, key: str):  # type: ignore[no-untyped-def]
        raise Unavailable("store is down")

    async def read(self, key: str, byte_range=None, *, version=None):  # type: ignore[no-untyped-def]
        raise Unavailable("store is down")

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000):  # type: ignore[no-untyped-def]
        raise Unavailable("store is down")


async def test_a_union_reads_the_first_member_that_has_the_key() -> None:
    first, second = memory("a"), memory("b")
    second.put("a", b"second")
    union = UnionStore((first, second))
    assert (await union.info("a")).size == 1
    assert (await union.info("b")).size == 1
    assert [e.key for e in (await union.list()).entries] == ["a", "b"]
    with pytest.raises(NotFound):
        await union.info("c")


async def test_an_unreachable_union_member_never_lets_a_lower_one_show_through() -> None:
    union = UnionStore((Down(), memory("a")))
    for ask in (union.info("a"), union.read("a"), union.list()):
        with pytest.raises(Unavailable):
            await ask


async def test_an_unreachable_mount_fails_a_listing_instead_of_shortening_it() -> None:
    ns = namespace(s=memory("a"), s__down=Down())
    with pytest.raises(Unavailable):
        await ns.list("/s")


KEYS = st.lists(st.text(alphabet="ab/-é\U0001f600", min_size=1, max_size=6), max_size=25)


@settings(max_examples=150, deadline=None)
@given(
    base=KEYS,
    eu=KEYS,
    de=KEYS,
    prefix=st.text(alphabet="ab/", max_size=3),
    delimiter=st.sampled_from(["", "/", "b", "a/"]),
    limit=st.integers(1, 7),
)
def test_listing_nested_mounts_equals_listing_one_sorted_set(
    base: list[str], eu: list[str], de: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    ns = namespace(r=memory(*base), r__a=memory(*eu), r__a__b=memory(*de))
    visible = {k for k in base if not k.startswith("a/")}
    visible |= {"a/" + k for k in eu if not k.startswith("b/")}
    visible |= {"a/b/" + k for k in de}
    expected: set[str] = set()
    for key in visible | ({"a/", "a/b/"} if delimiter else set()):
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        mount_only = key in ("a/", "a/b/") and key not in visible
        if cut >= 0:
            expected.add(key[: cut + len(delimiter)])
        elif not mount_only:
            expected.add(key)
    found = asyncio.run(keys_of(ns, "/r", prefix, delimiter, limit))
    assert found == sorted(expected)


async def test_the_table_may_change_between_pages_without_losing_a_reader() -> None:
    ns = namespace(a=memory(*(f"k{i}" for i in range(10))))
    page = await ns.list("/a", limit=4)
    ns.table = MountTable([*ns.table.mounts, mount("/b", memory("x"))])
    assert [e.key for e in (await ns.list("/a", after=page.after or "", limit=100)).entries] == [f"k{i}" for i in range(4, 10)]
    assert isinstance((await ns.list("/", delimiter="/")).entries[0], CommonPrefix)


async def test_a_namespace_without_mounts_is_empty_and_not_missing() -> None:
    assert await Namespace().list("/") == Listing(())
    with pytest.raises(NotFound):
        await Namespace().list("/b")


class Counting(MemoryStore):
    lists = 0

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        self.lists += 1
        return await super().list(prefix, delimiter=delimiter, after=after, limit=limit)


async def test_a_mount_behind_the_end_of_a_page_is_not_asked() -> None:
    nested = Counting()
    nested.put("z", b"z")
    ns = namespace(sales=memory("a", "b", "c", "d", "p"), sales__m=nested)
    assert [entry.key for entry in (await ns.list("/sales", limit=2)).entries] == ["a", "b"]
    assert nested.lists == 0
    assert [entry.key for entry in (await ns.list("/sales", after="c", limit=2)).entries] == ["d", "m/z"]
    assert nested.lists == 1
    assert await keys_of(ns, "/sales", limit=2) == ["a", "b", "c", "d", "m/z", "p"]


async def test_a_mount_that_is_down_fails_only_pages_that_reach_it() -> None:
    ns = namespace(sales=memory("a", "b", "c"), sales__m=Down())
    assert [entry.key for entry in (await ns.list("/sales", limit=2)).entries] == ["a", "b"]
    with pytest.raises(Unavailable):
        await ns.list("/sales", after="b", limit=2)
