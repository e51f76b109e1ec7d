"""OPEN and what is told of files, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.gateways.webhdfs.checksum import BlockSums
from support.gateway import RunningGateway, WarmStore
from support.webhdfs import Client, webhdfs

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[RunningGateway, Client]]:
    store = WarmStore()
    store.put("a/file", DATA)
    store.put("a/empty", b"")
    store.put("a/b/deep", b"deep", metadata=(("mode", "33152"), ("mtime", "1700000000.5"), ("atime", "1600000000.25")))
    store.put("marked/", b"", metadata=(("mode", "16832"),))
    with webhdfs({"/data": store}) as found:
        yield found


@pytest.fixture
def client(served: tuple[RunningGateway, Client]) -> Client:
    return served[1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, DATA), ({"offset": "5"}, DATA[5:]), ({"offset": "5", "length": "7"}, DATA[5:12]), ({"length": "7"}, DATA[:7]),
     ({"offset": "10000", "length": "99999"}, DATA[10000:]), ({"offset": "1", "length": "0"}, b""),
     ({"buffersize": "4096"}, DATA)],
)  # fmt: skip
def test_open_gives_the_bytes_that_were_asked_for(client: Client, values: dict[str, str], expected: bytes) -> None:
    told = client.read("/data/a/file", **values)
    assert (told.status, told.body) == (200, expected)
    assert told.headers["content-type"] == "application/octet-stream"


def test_an_empty_file_is_read(client: Client) -> None:
    assert client.read("/data/a/empty").body == b""
    assert client.read("/data/a/empty", offset="0", length="10").body == b""


def test_the_first_step_leads_to_this_node(client: Client) -> None:
    told = client.ask("GET", "/data/a/file", "OPEN", offset="3")
    assert told.status == 307
    assert told.headers["location"].startswith(
        f"http://{client.host}:{client.port}/webhdfs/v1/data/a/file?op=OPEN&offset=3&data=true"
    )
    named = client.ask("GET", "/data/a/file", "OPEN", offset="3", noredirect="true")
    assert (named.status, named.json["Location"]) == (200, told.headers["location"])


@pytest.mark.parametrize(
    ("path", "values", "status", "exception"),
    [("/data/a/none", {}, 404, "FileNotFoundException"), ("/data/a", {}, 404, "FileNotFoundException"),
     ("/none/x", {}, 404, "FileNotFoundException"), ("/data", {}, 404, "FileNotFoundException"), ("/", {}, 404,
     "FileNotFoundException"),
     ("/data/a/file", {"offset": str(len(DATA))}, 403, "IOException"), ("/data/a/file", {"offset": "-1"}, 400,
     "IllegalArgumentException"),
     ("/data/a/file", {"length": "x"}, 400, "IllegalArgumentException")],
)  # fmt: skip
@pytest.mark.parametrize("step", [{}, {"data": "true"}])
def test_what_cannot_be_opened_is_refused_as_hadoop_does(
    client: Client, path: str, values: dict[str, str], status: int, exception: str, step: dict[str, str]
) -> None:
    if path in ("/", "/data") and step:
        step = {}
    told = client.ask("GET", path, "OPEN", **values, **step)
    assert (told.status, told.exception) == (status, exception)
    assert told.headers["content-type"] == "application/json"


def test_the_status_of_a_file_tells_what_is_kept_with_it(client: Client) -> None:
    told = client.ask("GET", "/data/a/b/deep", "GETFILESTATUS").json["FileStatus"]
    assert (told["type"], told["length"], told["permission"]) == ("FILE", 4, "600")
    assert (told["modificationTime"], told["accessTime"]) == (1700000000500, 1600000000250)
    assert (told["pathSuffix"], told["blockSize"], told["replication"]) == ("", 128 << 20, 1)
    marked = client.ask("GET", "/data/marked", "GETFILESTATUS").json["FileStatus"]
    assert (marked["type"], marked["permission"], "childrenNum" in marked) == ("DIRECTORY", "700", False)


def test_a_changed_file_is_another_file(served: tuple[RunningGateway, Client]) -> None:
    running, client = served
    running.stores["/data"].put("changing", b"one")  # type: ignore[attr-defined]
    before = client.ask("GET", "/data/changing", "GETFILESTATUS").json["FileStatus"]["fileId"]
    assert client.ask("GET", "/data/changing", "GETFILESTATUS").json["FileStatus"]["fileId"] == before
    running.stores["/data"].put("changing", b"two")  # type: ignore[attr-defined]
    assert client.ask("GET", "/data/changing", "GETFILESTATUS").json["FileStatus"]["fileId"] != before


def test_blocks_cover_the_file(client: Client) -> None:
    told = client.ask("GET", "/data/a/file", "GETFILEBLOCKLOCATIONS").json["BlockLocations"]["BlockLocation"]
    assert [(one["offset"], one["length"]) for one in told] == [(0, len(DATA))]
    older = client.ask("GET", "/data/a/file", "GET_BLOCK_LOCATIONS").json["LocatedBlocks"]
    assert (older["fileLength"], len(older["locatedBlocks"])) == (len(DATA), 1)
    assert client.ask("GET", "/data/a/empty", "GET_BLOCK_LOCATIONS").json["LocatedBlocks"]["locatedBlocks"] == []


def test_a_checksum_does_not_depend_on_how_the_bytes_came(client: Client) -> None:
    first = client.ask("GET", "/data/a/file", "GETFILECHECKSUM")
    told = client.follow(first, "GET").json["FileChecksum"]
    assert (told["algorithm"], told["length"]) == ("MD5-of-0MD5-of-512CRC32C", 28)
    for cut in (1, 511, 512, 513, 4096, len(DATA)):
        sums = BlockSums(1 << 20)
        for start in range(0, len(DATA), cut):
            sums.add(DATA[start : start + cut])
        assert (sums.algorithm, sums.digest().hex()) == (told["algorithm"], told["bytes"])


def test_a_checksum_of_several_blocks_says_how_long_they_are() -> None:
    sums = BlockSums(1024)
    sums.add(DATA)
    assert sums.algorithm == "MD5-of-2MD5-of-512CRC32C"
    assert sums.digest().hex().startswith("00000200" + "0000000000000002")
    assert BlockSums(1024).digest().hex().endswith("70bc8f4b72a86921468bf8e8441dce51")
