"""The account store: buckets as first components, flat listings across them in key order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import NotFound, Unsupported
from headrace.model.objects import ByteRange, CommonPrefix
from headrace.model.uploads import Bucket, Upload
from headrace.model.writing import Attributes, BytesBody
from headrace.stores.account import AccountStore
from headrace.stores.buckets import Buckets
from headrace.stores.contract_hooks import read_all
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store

BUCKETS = st.dictionaries(
    st.text(st.sampled_from("ab-."), min_size=1, max_size=4).filter(lambda name: name[0] in "ab" and ".." not in name),
    st.sets(st.text(st.sampled_from("ab/-"), min_size=1, max_size=4), max_size=4),
    max_size=5,
)


class ListedBuckets(AccountStore):
    """The account store over memory; the buckets are those it was made with."""

    def __init__(self, objects: dict[str, set[str]]) -> None:
        self.stores: dict[str, MemoryStore] = {name: MemoryStore(min_part_bytes=0) for name in objects}
        super().__init__(NamedBuckets(objects), lambda bucket: self.stores.get(bucket, MemoryStore()))
        for name, keys in objects.items():
            for key in keys:
                self.stores[name].put(key, key.encode())


class NamedBuckets(Buckets):
    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)

    async def list(self) -> tuple[Bucket, ...]:
        return tuple([Bucket(name) for name in self.names])

    async def create(self, name: str) -> Bucket:
        raise AssertionError(name)

    async def delete(self, name: str) -> None:
        raise AssertionError(name)


async def walked(store: Store, limit: int, prefix: str, delimiter: str) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.list(prefix, delimiter=delimiter, after=after, limit=limit)
        assert len(page.entries) <= limit
        found += [entry.key for entry in page.entries]
        after = page.after
    return found


@settings(deadline=None)
@given(BUCKETS, st.integers(1, 4), st.text(st.sampled_from("ab-/"), max_size=3), st.sampled_from(["", "-", "a"]))
async def test_flat_listings_equal_those_of_one_big_store(
    objects: dict[str, set[str]], limit: int, prefix: str, delimiter: str
) -> None:
    whole = MemoryStore()
    for bucket, keys in objects.items():
        for key in keys:
            whole.put(f"{bucket}/{key}", b"x")
    found = await walked(ListedBuckets(objects), limit, prefix, delimiter)
    expected = await walked(whole, limit, prefix, delimiter)
    roots = {bucket + "/" for bucket in objects}
    # An empty bucket shows where its name is rolled up; in the model, nothing of it does.
    assert [key for key in found if key in expected] == expected
    assert all(any(root.startswith(key) for root in roots) for key in found if key not in expected)
    assert found == sorted(set(found), key=str.encode)


@settings(deadline=None)
@given(BUCKETS, st.integers(1, 3))
async def test_buckets_are_common_prefixes_also_when_empty(objects: dict[str, set[str]], limit: int) -> None:
    found = await walked(ListedBuckets(objects), limit, "", "/")
    assert found == sorted((name + "/" for name in objects), key=str.encode)


async def test_keys_below_a_bucket_are_its_own() -> None:
    store = ListedBuckets({"a": {"k", "x/y", "//z"}, "a-b": {"k"}})
    assert (await store.info("a/k")).key == "a/k"
    assert await read_all(store, "a///z") == b"//z"
    assert (await store.read("a-b/k")).info.key == "a-b/k"
    page = await store.list("a/", delimiter="/")
    assert page.entries[0] == CommonPrefix("a//")
    assert [entry.key for entry in page.entries] == ["a//", "a/k", "a/x/"]


@pytest.mark.parametrize("key", ["a", "a/", "../k", "./k", "/k", "a%2f/k", "no?x/k"])
async def test_a_key_that_names_no_object_in_a_bucket_is_not_found(key: str) -> None:
    store = ListedBuckets({"a": {"k"}})
    with pytest.raises(NotFound):
        await store.info(key)


async def test_a_delimiter_across_the_buckets_name_is_refused() -> None:
    with pytest.raises(Unsupported):
        await ListedBuckets({"a": {"k"}}).list("", delimiter="/k")


async def test_open_buckets_are_bounded() -> None:
    opened: list[str] = []

    def opener(bucket: str) -> Store:
        opened.append(bucket)
        return MemoryStore()

    store = AccountStore(NamedBuckets([]), opener)
    for number in [*range(300), 299, 0]:
        with pytest.raises(NotFound):
            await store.info(f"bucket{number}/k")
    assert opened == [f"bucket{number}" for number in [*range(300), 0]]


async def test_writes_go_to_the_bucket_and_copies_between_buckets_keep_attributes() -> None:
    store = ListedBuckets({"a": set(), "b": set()})
    told = await store.write("a/k", BytesBody(b"x"), Attributes("text/csv", tags=(("t", "1"),)))
    assert told.key == "a/k"
    for target in ("a/l", "b/l"):
        assert (await store.copy(told, target)).key == target
        assert (await store.info(target)).content_type == "text/csv"
        assert await store.tags(target) == (("t", "1"),)
    await store.set_tags("b/l", ())
    assert await store.tags("b/l") == ()
    await store.delete("a/k")
    assert await walked(store, 10, "", "") == ["a/l", "b/l"]


async def test_uploads_live_in_their_buckets_and_are_listed_over_all() -> None:
    store = ListedBuckets({"a": {"k"}, "a-b": set(), "b": set()})
    uploads = store.multipart()
    begun = [await uploads.begin(key) for key in ("b/2", "a/1", "a-b/1", "a/1", "b/1")]
    for prefix, wanted in (("", ["a-b/1", "a/1", "a/1", "b/1", "b/2"]), ("a", ["a-b/1", "a/1", "a/1"]), ("b/1", ["b/1"])):
        for limit in (1, 2, 3, 10):
            found: list[Upload] = []
            after: Upload | None = None
            while True:
                page = await uploads.list(prefix, after=after, limit=limit)
                found += page.uploads
                after = page.after
                if after is None:
                    break
            assert [upload.key for upload in found] == wanted, (prefix, limit)
    one = await uploads.put(begun[0], 1, BytesBody(b"one "))
    two = await uploads.copy(begun[0], 2, await store.info("a/k"))
    three = await uploads.copy(begun[0], 3, await store.info("a/k"), ByteRange(0, 1))
    assert (await uploads.parts(begun[0])).upload.key == "b/2"
    assert (await uploads.complete(begun[0], (one, two, three))).key == "b/2"
    assert await read_all(store, "b/2") == b"one kk"
    await uploads.abort(begun[1])
    assert len((await uploads.list("a/")).uploads) == 1
