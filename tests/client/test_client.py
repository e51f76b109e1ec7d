from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import headrace
from headrace.client import Client, ReadRequest, namespace_path
from headrace.model.errors import ConditionFailed, NotFound, ReadOnly
from headrace.model.objects import CommonPrefix
from headrace.model.writing import Attributes, Condition
from headrace.namespace.namespace import Namespace
from headrace.session import Session, SessionOptions
from headrace.stores.memory import MemoryStore
from support.sliced import namespace_of
from support.writable import writable_namespace

BODY = bytes(range(256)) * 5000


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for key in ("a/one", "a/two", "a/deep/three", "odd//key", "dir/", "top"):
        store.put(key, key.encode())
    store.put("big", BODY)
    return store


@pytest.fixture
def client(store: MemoryStore) -> Client:
    async def opener(_: SessionOptions) -> Namespace:
        return namespace_of(b=store)

    return Client(Session(SessionOptions(), opener))


def test_the_package_offers_the_client_and_loads_it_only_when_asked() -> None:
    assert headrace.Client is Client
    loaded = "'headrace.client' in sys.modules"
    code = f"import sys, headrace; assert not {loaded}; headrace.Client; assert {loaded}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError):
        headrace.Nothing  # noqa: B018


@pytest.mark.parametrize("written", ["/b/a/one", "b/a/one", "headrace://b/a/one"])
def test_takes_paths_in_every_usual_form(client: Client, written: str) -> None:
    assert client.read(written) == b"a/one"


def test_keeps_odd_keys_exactly(client: Client) -> None:
    assert namespace_path("headrace://b/odd//key/") == "/b/odd//key/"
    assert client.read("b/odd//key") == b"odd//key"
    assert client.stat("b/dir/").key == "/b/dir/"


def test_lists_one_level_or_everything_below(client: Client) -> None:
    assert [e.key for e in client.ls("/b/a")] == ["/b/a/deep/", "/b/a/one", "/b/a/two"]
    assert isinstance(next(iter(client.ls("b/a"))), CommonPrefix)
    assert [e.key for e in client.ls("b/a", recursive=True)] == ["/b/a/deep/three", "/b/a/one", "/b/a/two"]
    assert [e.key for e in client.ls("/")] == ["/b/"]
    assert [e.key for e in client.ls("/b/top")] == ["/b/top"]
    with pytest.raises(NotFound):
        list(client.ls("/b/nothing"))


def test_listing_is_lazy(client: Client, store: MemoryStore) -> None:
    for number in range(3000):
        store.put(f"many/{number:05}", b"")
    store.calls.clear()
    next(client.ls("b/many"))
    assert store.calls["list"] == 1


def test_reads_ranges_many_ranges_and_pieces(client: Client) -> None:
    assert client.read("b/big", 5, 10) == BODY[5:10]
    assert client.read("b/big", -5) == BODY[-5:]
    wanted = [ReadRequest("b/big", 0, 4), ReadRequest("/b/top"), ReadRequest("b/big", 900_000, 900_010)]
    assert client.read_many(wanted) == [BODY[:4], b"top", BODY[900_000:900_010]]
    pieces = list(client.iter_bytes("b/big", chunk_bytes=500_000))
    assert [len(p) for p in pieces] == [500_000, 500_000, len(BODY) - 1_000_000]
    assert b"".join(pieces) == BODY


def test_opens_a_seekable_file(client: Client) -> None:
    with client.open("b/big") as opened:
        opened.seek(700_000)
        assert opened.read(7) == BODY[700_000:700_007]


def test_absence_is_a_file_not_found_error(client: Client) -> None:
    assert not client.exists("b/nothing")
    with pytest.raises(FileNotFoundError):
        client.open("b/nothing")


def test_a_closed_client_says_so(client: Client) -> None:
    with client:
        client.stat("b/top")
    with pytest.raises(ValueError, match="closed"):
        client.stat("b/top")


@pytest.fixture
def writer(store: MemoryStore) -> Client:
    async def opener(_: SessionOptions) -> Namespace:
        return writable_namespace(b=store)

    return Client(Session(SessionOptions(), opener))


def test_puts_copies_and_deletes(writer: Client, store: MemoryStore, tmp_path: Path) -> None:
    info = writer.put("b/new", b"new", attributes=Attributes(content_type="text/plain"))
    assert (info.key, info.size, info.content_type) == ("/b/new", 3, "text/plain")
    copied = writer.copy("headrace://b/new", "/b/copied")
    assert (copied.key, copied.content_type, writer.read("/b/copied")) == ("/b/copied", "text/plain", b"new")
    (tmp_path / "file").write_bytes(BODY)
    writer.put("/b/file", tmp_path / "file")
    assert store.body("file") == BODY
    writer.delete("/b/new", condition=Condition(if_match=info.etag))
    writer.delete("/b/new")
    assert not writer.exists("/b/new")


def test_conditions_hold_and_change_nothing(writer: Client, store: MemoryStore) -> None:
    with pytest.raises(FileExistsError):
        writer.put("/b/top", b"x", condition=Condition(if_none_match="*"))
    for change in (
        lambda: writer.put("/b/top", b"x", condition=Condition(if_match="other")),
        lambda: writer.copy("/b/big", "/b/top", condition=Condition(if_match="other")),
        lambda: writer.delete("/b/top", condition=Condition(if_match="other")),
    ):
        with pytest.raises(ConditionFailed):
            change()
    assert store.body("top") == b"top"


def test_a_mount_without_writes_takes_none(client: Client) -> None:
    for change in (lambda: client.put("/b/x", b""), lambda: client.delete("/b/top"), lambda: client.copy("/b/top", "/b/x")):
        with pytest.raises(ReadOnly):
            change()
