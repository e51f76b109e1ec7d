from __future__ import annotations

import subprocess
import sys

import pytest

import headrace
from headrace.client import Client, ReadRequest, namespace_path
from headrace.model.errors import NotFound
from headrace.model.objects import CommonPrefix
from headrace.namespace.namespace import Namespace
from headrace.session import Session, SessionOptions
from headrace.stores.memory import MemoryStore
from support.sliced import namespace_of

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
