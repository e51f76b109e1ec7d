"""Files on their way into the namespace: what is left of one is gone on with, by one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.client import Client
from headrace.console.sending import Leftovers, Sender
from headrace.gateways.sending import file_etag
from headrace.gateways.writing import PART_BYTES
from headrace.model.errors import CorruptData, Unavailable
from headrace.model.objects import ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition
from headrace.namespace.namespace import Namespace
from headrace.session import Session, SessionOptions
from headrace.stores.memory import MemoryStore
from support.writable import writable_namespace

LARGE = os.urandom(4 * PART_BYTES + 17)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def client(store: MemoryStore) -> Iterator[Client]:
    async def opener(_: SessionOptions) -> Namespace:
        return writable_namespace(b=store)

    with Client(Session(SessionOptions(), opener)) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def leftovers(tmp_path: Path) -> Leftovers:
    return Leftovers(tmp_path / "copies")


class Parts:
    """Counts the parts that are sent, and loses the store at one of them."""

    def __init__(self, store: MemoryStore, *, fails_at: int = 0) -> None:
        self.sent: list[int] = []
        self.fails_at = fails_at
        self._put = store.multipart().put
        store.multipart().put = self  # type: ignore[method-assign]

    async def __call__(self, upload: Upload, number: int, body: Body) -> Part:
        if number == self.fails_at:
            raise Unavailable("the store does not answer")
        self.sent.append(number)
        return await self._put(upload, number, body)


def send(client: Client, leftovers: Leftovers, source: Path) -> tuple[bool, str]:
    copied = Sender(client, leftovers, lambda _count: None).send(source, "/b/k")
    return copied.skipped, copied.verified


def test_a_broken_upload_goes_on_with_the_parts_that_are_missing(
    client: Client, store: MemoryStore, source: Path, leftovers: Leftovers
) -> None:
    parts = Parts(store, fails_at=5)
    with pytest.raises(Unavailable):
        send(client, leftovers, source)
    assert not client.exists("/b/k")
    first, parts.sent, parts.fails_at = sorted(parts.sent), [], 0
    assert send(client, leftovers, source) == (False, "etag")
    assert first == [1, 2, 3, 4] and parts.sent == [5]
    assert store.body("k") == LARGE
    assert send(client, leftovers, source) == (True, "etag")


def test_what_was_left_of_another_file_is_dropped(client: Client, store: MemoryStore, source: Path, leftovers: Leftovers) -> None:
    parts = Parts(store, fails_at=3)
    with pytest.raises(Unavailable):
        send(client, leftovers, source)
    source.write_bytes(LARGE[::-1])
    parts.fails_at, parts.sent = 0, []
    send(client, leftovers, source)
    assert sorted(parts.sent) == [1, 2, 3, 4, 5]
    assert store.body("k") == LARGE[::-1]
    assert not store.multipart()._begun


def test_what_was_left_is_dropped_when_the_object_is_there_already(
    client: Client, store: MemoryStore, source: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    parts = Parts(store, fails_at=3)
    with pytest.raises(Unavailable):
        send(client, leftovers, source)
    parts.fails_at = 0
    client.put("/b/k", source)
    assert send(client, leftovers, source) == (True, "etag")
    assert not store.multipart()._begun
    assert not any((tmp_path / "copies").iterdir())


def test_an_upload_that_is_gone_from_the_store_begins_again(
    client: Client, store: MemoryStore, source: Path, leftovers: Leftovers
) -> None:
    parts = Parts(store, fails_at=2)
    with pytest.raises(Unavailable):
        send(client, leftovers, source)
    store.multipart()._begun.clear()
    parts.fails_at = 0
    assert send(client, leftovers, source) == (False, "etag")
    assert store.body("k") == LARGE


def test_one_run_at_a_time_goes_on_with_an_upload(source: Path, leftovers: Leftovers, tmp_path: Path) -> None:
    claim = leftovers.claim(source, "/b/k")
    assert claim is not None
    assert leftovers.claim(source, "/b/k") is None
    assert leftovers.claim(source, "/b/other") is not None
    claim.end(keep=False)
    assert leftovers.claim(source, "/b/k") is not None
    (tmp_path / "file").write_bytes(b"")
    assert Leftovers(tmp_path / "file" / "below").claim(source, "/b/k") is None


def test_where_nothing_can_be_written_down_a_broken_upload_is_given_up(
    client: Client, store: MemoryStore, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    Parts(store, fails_at=3)
    with pytest.raises(Unavailable):
        send(client, Leftovers(tmp_path / "file"), source)
    assert not store.multipart()._begun


def test_a_file_that_changes_meanwhile_is_not_published(
    client: Client, store: MemoryStore, source: Path, leftovers: Leftovers
) -> None:
    put = store.multipart().put

    async def changing(upload: Upload, number: int, body: Body) -> Part:
        with source.open("ab") as file:
            file.write(b"more")
        return await put(upload, number, body)

    store.multipart().put = changing  # type: ignore[method-assign]
    with pytest.raises(CorruptData, match="was changed"):
        send(client, leftovers, source)
    assert not client.exists("/b/k")
    assert not store.multipart()._begun


@pytest.mark.parametrize("harm", [b"", b"X"])
def test_an_object_whose_etag_says_nothing_is_read_back(
    client: Client, store: MemoryStore, tmp_path: Path, leftovers: Leftovers, harm: bytes
) -> None:
    write = store.write

    async def sealed(key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        info = await write(key, body, attributes, condition=condition)
        store.put(key, harm or store.body(key))
        return ObjectInfo(key, info.size, info.version, etag="d41d8cd98f00b204e9800998ecf8427e")

    store.write = sealed  # type: ignore[method-assign]
    small = tmp_path / "small"
    small.write_bytes(b"1")
    if harm:
        with pytest.raises(CorruptData, match="other bytes"):
            send(client, leftovers, small)
    else:
        assert send(client, leftovers, small) == (False, "read back")


def test_the_etag_of_a_file_is_that_of_its_object(client: Client, source: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"small")
    for path in (source, small):
        etag = client.put("/b/k", path).etag
        assert file_etag(path, etag) == etag
    assert file_etag(source, "0-7") == "" == file_etag(small, "inode-and-so-on")
