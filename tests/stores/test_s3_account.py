"""The account store: buckets as first components, flat listings across them in key order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import NotFound, Unsupported
from headrace.model.objects import CommonPrefix
from headrace.stores.contract_hooks import read_all
from headrace.stores.memory import MemoryStore
from headrace.stores.s3_account import S3AccountStore
from headrace.stores.store import Store
from support.s3_stores import s3_requests
from support.scripted import http_answer, scripted

BUCKETS = st.dictionaries(
    st.text(st.sampled_from("ab-."), min_size=1, max_size=4).filter(lambda name: name[0] in "ab" and ".." not in name),
    st.sets(st.text(st.sampled_from("ab/-"), min_size=1, max_size=4), max_size=4),
    max_size=5,
)


class ListedBuckets(S3AccountStore):
    """The account store over memory; which buckets there are is asked of nobody."""

    def __init__(self, objects: dict[str, set[str]]) -> None:
        super().__init__(s3_requests("http://127.0.0.1:1"), self.opened)
        self.stores: dict[str, MemoryStore] = {name: MemoryStore() for name in objects}
        for name, keys in objects.items():
            for key in keys:
                self.stores[name].put(key, key.encode())

    def opened(self, bucket: str) -> Store:
        return self.stores.get(bucket, MemoryStore())

    async def bucket_names(self) -> tuple[str, ...]:
        return tuple(sorted(self.stores))


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


async def test_buckets_are_asked_for_at_the_endpoint() -> None:
    body = b"<ListAllMyBucketsResult><Buckets><Bucket><Name>b</Name></Bucket></Buckets></ListAllMyBucketsResult>"
    async with scripted(lambda *_: http_answer(200, body)) as server:
        store = S3AccountStore(s3_requests(server.endpoint), lambda _: MemoryStore())
        assert (await store.list("", delimiter="/")).entries == (CommonPrefix("b/"),)
        await store.close()
        assert server.requests[0][0] == "GET / HTTP/1.1"


async def test_open_buckets_are_bounded() -> None:
    opened: list[str] = []

    def opener(bucket: str) -> Store:
        opened.append(bucket)
        return MemoryStore()

    store = S3AccountStore(s3_requests("http://127.0.0.1:1"), opener)
    for number in [*range(300), 299, 0]:
        with pytest.raises(NotFound):
            await store.info(f"bucket{number}/k")
    assert opened == [f"bucket{number}" for number in [*range(300), 0]]
