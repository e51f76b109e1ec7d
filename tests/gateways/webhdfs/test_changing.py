"""Writing, moving, removing, and what is kept with files, as HDFS does them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from headrace.gateways.writing import PART_BYTES
from headrace.model.events import WriteServed
from headrace.model.mounts import MountSpec
from headrace.namespace.table import Mount, MountTable
from headrace.policy.rules import Action, Policy, Rule
from headrace.stores.memory import MemoryStore
from support.gateway import RunningGateway
from support.webhdfs import Client, Told, webhdfs


@pytest.fixture
def served() -> Iterator[tuple[RunningGateway, Client]]:
    with webhdfs({"/data": MemoryStore(), "/other": MemoryStore()}) as found:
        yield found


@pytest.fixture
def client(served: tuple[RunningGateway, Client]) -> Client:
    return served[1]


def refused(told: Told, exception: str) -> bool:
    return told.status >= 400 and told.exception == exception


def test_what_is_created_is_read(served: tuple[RunningGateway, Client]) -> None:
    running, client = served
    made = client.create("/data/a/b", b"one")
    assert (made.status, made.body) == (201, b"")
    assert made.headers["location"] == f"webhdfs://{client.host}:{client.port}/data/a/b"
    assert client.read("/data/a/b").body == b"one"
    written = [event for event in running.events if isinstance(event, WriteServed) and event.status == 201]
    assert [(event.path, event.bytes, event.operation) for event in written] == [("/data/a/b", 3, "WebHDFS CREATE")]


def test_a_file_that_is_there_is_replaced_only_where_that_was_said(client: Client) -> None:
    client.create("/data/a", b"one")
    late = client.ask("PUT", "/data/b", "CREATE")
    client.create("/data/b", b"first")
    for told in (
        client.create("/data/a", b"two"),
        client.create("/data/a", b"two", overwrite="false"),
        client.follow(late, "PUT", b"x"),
    ):
        assert refused(told, "FileAlreadyExistsException")
    assert client.create("/data/a", b"two", overwrite="true").status == 201
    assert (client.read("/data/a").body, client.read("/data/b").body) == (b"two", b"first")


def test_the_first_step_takes_no_bytes(client: Client) -> None:
    told = client.raw("PUT", "/webhdfs/v1/data/a?op=CREATE&user.name=etl", b"bytes")
    assert told.status == 307
    assert client.ask("GET", "/data/a", "GETFILESTATUS").status == 404
    named = client.ask("PUT", "/data/a", "CREATE", noredirect="true")
    assert named.status == 200
    assert "data=true" in named.json["Location"]


def test_a_long_body_of_unknown_length_streams(client: Client) -> None:
    data = os.urandom(PART_BYTES * 2 + 12345)
    place = client.ask("PUT", "/data/long", "CREATE").headers["location"].partition(str(client.port))[2]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[n : n + 65536] for n in range(0, len(data), 65536)))
    told = client.raw("PUT", place, chunks + b"0\r\n\r\n", {"transfer-encoding": "chunked"})
    assert told.status == 201
    assert client.read("/data/long").body == data


def test_a_body_that_ends_early_leaves_nothing(served: tuple[RunningGateway, Client]) -> None:
    running, client = served
    place = client.ask("PUT", "/data/cut", "CREATE").headers["location"].partition(str(client.port))[2]
    head = f"PUT {place} HTTP/1.1\r\nhost: {client.host}:{client.port}\r\ncontent-length: 100000\r\n\r\n".encode()
    answer = running.talk(head + b"x" * 70000, eof=True)[0]
    assert answer.status == 400
    assert client.ask("GET", "/data/cut", "GETFILESTATUS").status == 404


@pytest.mark.parametrize("size", [0, 10, PART_BYTES - 1, PART_BYTES + 1])
def test_appending_makes_a_longer_version(client: Client, size: int) -> None:
    data = os.urandom(size)
    client.create("/data/log", data)
    place = client.ask("POST", "/data/log", "APPEND").headers["location"].partition(str(client.port))[2]
    for more in (b"more", b"", b"and more"):
        assert client.raw("POST", place, more).status == 200
        data += more
    assert client.read("/data/log").body == data


def test_what_is_not_there_is_not_appended_to(client: Client) -> None:
    client.ask("PUT", "/data/dir", "MKDIRS")
    assert refused(client.append("/data/none", b"x"), "FileNotFoundException")
    for path in ("/data/dir", "/data"):
        assert refused(client.append(path, b"x"), "FileAlreadyExistsException")


def test_of_two_who_append_at_once_none_is_lost_unseen(client: Client) -> None:
    client.create("/data/log", b"base")
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: client.append("/data/log", b"%d;" % n), range(8)))
    done = {n for n, one in enumerate(told) if one.status == 200}
    assert done
    assert all(refused(one, "IOException") for n, one in enumerate(told) if n not in done)
    text = client.read("/data/log").body.removeprefix(b"base").decode()
    assert sorted(int(part) for part in text.split(";") if part) == sorted(done)


def test_concat_joins_files_and_removes_the_sources(client: Client) -> None:
    parts = {name: os.urandom(size) for name, size in (("t", 5), ("a", 0), ("b", PART_BYTES + 3), ("c", 7))}
    for name, data in parts.items():
        client.create(f"/data/{name}", data)
    assert client.ask("POST", "/data/t", "CONCAT", sources="/data/a,/data/b,/data/c").status == 200
    assert client.read("/data/t").body == b"".join(parts[name] for name in "tabc")
    assert client.names("/data") == ["t"]
    for sources in ("", "/data/t", "/data/none", "data/x", "/data/x,/data/x"):
        assert client.ask("POST", "/data/t", "CONCAT", sources=sources).status >= 400


def test_directories_are_there_until_they_are_removed(client: Client) -> None:
    assert client.ask("PUT", "/data/a/b/c", "MKDIRS").json == {"boolean": True}
    assert client.ask("PUT", "/data/a/b/c", "MKDIRS").json == {"boolean": True}
    client.create("/data/a/b/c/file", b"x")
    assert refused(client.ask("DELETE", "/data/a/b", "DELETE"), "PathIsNotEmptyDirectoryException")
    assert client.ask("DELETE", "/data/a/b/c/file", "DELETE").json == {"boolean": True}
    assert client.names("/data/a/b") == ["c"]
    assert client.ask("DELETE", "/data/a/b/c", "DELETE").json == {"boolean": True}
    assert client.names("/data/a") == ["b"]
    assert client.ask("DELETE", "/data/a", "DELETE", recursive="true").json == {"boolean": True}
    assert client.ask("DELETE", "/data/a", "DELETE", recursive="true").json == {"boolean": False}


def test_a_directory_that_only_files_make_stays_when_its_last_file_goes(client: Client) -> None:
    client.create("/data/d/only", b"x")
    client.ask("DELETE", "/data/d/only", "DELETE")
    assert client.names("/data/d") == []
    client.create("/data/e/only", b"x")
    assert client.ask("PUT", "/data/e/only", "RENAME", destination="/data/moved").json == {"boolean": True}
    assert client.names("/data/e") == []


def test_no_file_is_a_directory_too(client: Client) -> None:
    client.create("/data/f", b"x")
    assert refused(client.create("/data/f/below", b"x"), "ParentNotDirectoryException")
    assert refused(client.ask("PUT", "/data/f/below", "MKDIRS"), "ParentNotDirectoryException")
    assert refused(client.ask("PUT", "/data/f", "MKDIRS"), "FileAlreadyExistsException")
    client.ask("PUT", "/data/d", "MKDIRS")
    assert refused(client.create("/data/d", b"x", overwrite="true"), "FileAlreadyExistsException")
    assert refused(client.create("/data/no/parent", b"x", createparent="false"), "FileNotFoundException")


@pytest.mark.parametrize(
    ("source", "target", "moved", "ends_at"),
    [("/data/f", "/data/g", True, "/data/g"), ("/data/f", "/data/d", True, "/data/d/f"), ("/data/f", "/data/f", True, "/data/f"),
     ("/data/f", "/data/h", False, "/data/f"), ("/data/none", "/data/g", False, ""), ("/data/f", "/data/no/g", False, "/data/f"),
     ("/data/f", "/data/h/below", False, "/data/f")],
)  # fmt: skip
def test_rename_says_whether_it_moved(client: Client, source: str, target: str, moved: bool, ends_at: str) -> None:
    client.create("/data/f", b"file")
    client.create("/data/h", b"there")
    client.ask("PUT", "/data/d", "MKDIRS")
    assert client.ask("PUT", source, "RENAME", destination=target).json == {"boolean": moved}
    if ends_at:
        assert client.read(ends_at).body == b"file"
    assert client.read("/data/h").body == b"there"


def test_a_directory_moves_with_all_that_is_in_it(client: Client) -> None:
    for name in ("1", "s/2", "s/t/3"):
        client.create(f"/data/d/{name}", name.encode(), permission="600")
    client.ask("PUT", "/data/d/empty", "MKDIRS")
    assert client.ask("PUT", "/data/d", "RENAME", destination="/data/d/s/below").json == {"boolean": False}
    assert client.ask("PUT", "/data/d", "RENAME", destination="/data/e").json == {"boolean": True}
    assert client.names("/data/e") == ["1", "empty", "s"]
    assert client.read("/data/e/s/t/3").body == b"s/t/3"
    assert client.ask("GET", "/data/e/1", "GETFILESTATUS").json["FileStatus"]["permission"] == "600"
    assert client.names("/data") == ["e"]


def test_rename_with_options_overwrites_or_says_why_not(client: Client) -> None:
    def move(source: str, target: str, options: str) -> Told:
        return client.ask("PUT", source, "RENAME", destination=target, renameoptions=options)

    for name in ("f", "g", "full/x"):
        client.create(f"/data/{name}", name.encode())
    client.ask("PUT", "/data/d", "MKDIRS")
    assert refused(move("/data/f", "/data/g", "NONE"), "FileAlreadyExistsException")
    assert refused(move("/data/none", "/data/h", "NONE"), "FileNotFoundException")
    assert refused(move("/data/f", "/data/no/h", "NONE"), "FileNotFoundException")
    assert refused(move("/data/f", "/data/d", "OVERWRITE"), "IOException")
    assert refused(move("/data/d", "/data/full", "OVERWRITE"), "IOException")
    assert refused(move("/data/f", "/data/g", "TRASH"), "IllegalArgumentException")
    assert move("/data/f", "/data/g", "OVERWRITE").status == 200
    assert client.read("/data/g").body == b"f"
    assert move("/data/full", "/data/d", "OVERWRITE").status == 200
    assert client.read("/data/d/x").body == b"full/x"


def test_mounts_and_buckets_stay_where_they_are(client: Client) -> None:
    client.create("/data/f", b"x")
    for told in (
        client.ask("DELETE", "/data", "DELETE", recursive="true"), client.ask("DELETE", "/", "DELETE", recursive="true"),
        client.ask("PUT", "/data", "RENAME", destination="/data2"), client.create("/file", b"x"),
        client.ask("PUT", "/new", "MKDIRS"),
    ):  # fmt: skip
        assert told.status in (200, 403)
        assert told.status == 403 or told.json == {"boolean": False}
    assert "two mounts" in client.ask("PUT", "/data/f", "RENAME", destination="/other/f").message
    assert client.read("/data/f").body == b"x"


def test_a_mount_below_a_directory_is_not_emptied_with_it(served: tuple[RunningGateway, Client]) -> None:
    running, client = served
    inner = MemoryStore()
    inner.put("x", b"kept")
    mounts = [*running.namespace.table.mounts, Mount("/data/d/inner", MountSpec("/data/d/inner", "memory://"), inner)]
    running.namespace.table = MountTable(mounts)
    client.create("/data/d/f", b"x")
    assert refused(client.ask("DELETE", "/data/d", "DELETE", recursive="true"), "AccessControlException")
    assert refused(client.ask("PUT", "/data/d", "RENAME", destination="/data/e"), "AccessControlException")
    assert client.read("/data/d/inner/x").body == b"kept"


def test_what_rules_keep_is_not_removed_or_moved_with_its_directory() -> None:
    store = MemoryStore()
    for key in ("d/open", "d/kept/x"):
        store.put(key, b"x")
    policy = Policy((Rule("/data/d/kept", effect="deny", actions=(Action.WRITE,)),))
    with webhdfs({"/data": store}, policy=policy) as (_, client):
        assert refused(client.ask("DELETE", "/data/d", "DELETE", recursive="true"), "AccessControlException")
        assert refused(client.ask("PUT", "/data/d", "RENAME", destination="/data/e"), "AccessControlException")
        assert refused(client.ask("PUT", "/data/d/open", "RENAME", destination="/data/d/kept/y"), "AccessControlException")
        assert refused(client.ask("POST", "/data/d/open", "CONCAT", sources="/data/d/kept/x"), "AccessControlException")
        assert client.names("/data/d") == ["kept", "open"]


def test_a_mount_that_takes_no_writes_says_so() -> None:
    store = MemoryStore()
    store.put("f", b"x")
    with webhdfs({"/data": store}, writable=False) as (_, client):
        for told in (
            client.create("/data/g", b"x"), client.append("/data/f", b"x"), client.ask("DELETE", "/data/f", "DELETE"),
            client.ask("PUT", "/data/d", "MKDIRS"), client.ask("PUT", "/data/f", "RENAME", destination="/data/g"),
            client.ask("PUT", "/data/f", "SETPERMISSION", permission="600"), client.ask("GET", "/data/f",
            "CHECKACCESS", fsaction="-w-"),
        ):  # fmt: skip
            assert refused(told, "AccessControlException")


def test_permissions_owners_and_times_are_kept(client: Client) -> None:
    client.create("/data/f", b"x", permission="640")
    client.ask("PUT", "/data/d", "MKDIRS", permission="700")
    for path in ("/data/f", "/data/d"):
        before = client.ask("GET", path, "GETFILESTATUS").json["FileStatus"]["permission"]
        assert before == ("640" if path == "/data/f" else "700")
        assert client.ask("PUT", path, "SETPERMISSION", permission="1751").status == 200
        assert client.ask("PUT", path, "SETOWNER", owner="ann", group="1000").status == 200
        assert client.ask("PUT", path, "SETTIMES", modificationtime="1234567890123", accesstime="-1").status == 200
        told = client.ask("GET", path, "GETFILESTATUS").json["FileStatus"]
        assert (told["permission"], told["owner"], told["group"]) == ("1751", "ann", "1000")
        assert told["modificationTime"] == 1234567890123
    assert client.read("/data/f").body == b"x"
    for op, values in (("SETPERMISSION", {}), ("SETPERMISSION", {"permission": "9"}), ("SETOWNER", {}),
                       ("SETOWNER", {"owner": "a\r\nb"}),
                       ("SETTIMES", {"modificationtime": "-2"})):  # fmt: skip
        assert refused(client.ask("PUT", "/data/f", op, **values), "IllegalArgumentException")
    assert refused(client.ask("PUT", "/data", "SETPERMISSION", permission="700"), "UnsupportedOperationException")


def test_attributes_are_kept_and_told(client: Client) -> None:
    client.create("/data/f", b"x")

    def set_(name: str, value: str, flag: str = "CREATE") -> Told:
        return client.ask("PUT", "/data/f", "SETXATTR", xattr__name=name, xattr__value=value, flag=flag)

    assert set_("user.a", "0x010203").status == 200
    assert set_("user.b", '"text"').status == 200
    assert refused(set_("user.a", "0x", "CREATE"), "IOException")
    assert refused(set_("user.c", "0x", "REPLACE"), "IOException")
    assert refused(set_("trusted.c", "0x"), "UnsupportedOperationException")
    assert refused(set_("user.headrace.etag", "0x"), "UnsupportedOperationException")
    assert refused(set_("user.c", "0xzz"), "IllegalArgumentException")
    assert refused(set_("user.c", "x" * 2000), "IOException")
    told = {one["name"]: one["value"] for one in client.ask("GET", "/data/f", "GETXATTRS", encoding="hex").json["XAttrs"]}
    assert (told["user.a"], told["user.b"]) == ("0x010203", "0x" + b"text".hex())
    one = client.ask("GET", "/data/f", "GETXATTRS", xattr__name="user.b", encoding="text").json["XAttrs"]
    assert one == [{"name": "user.b", "value": '"text"'}]
    assert client.ask("PUT", "/data/f", "REMOVEXATTR", xattr__name="user.a").status == 200
    assert refused(client.ask("PUT", "/data/f", "REMOVEXATTR", xattr__name="user.a"), "IOException")
    names = client.ask("GET", "/data/f", "LISTXATTRS").json["XAttrNames"]
    assert '"user.b"' in names
    assert '"user.a"' not in names


@pytest.mark.parametrize(
    ("method", "op"), [("POST", "TRUNCATE"), ("PUT", "CREATESYMLINK"), ("GET", "GETACLSTATUS"), ("PUT", "SETACL"),
                       ("PUT", "CREATESNAPSHOT"),
                       ("GET", "GETALLSTORAGEPOLICY"), ("PUT", "SETQUOTA")],
)  # fmt: skip
def test_what_is_not_offered_is_refused_by_name(client: Client, method: str, op: str) -> None:
    client.create("/data/f", b"x")
    told = client.ask(method, "/data/f", op, newlength="0")
    assert refused(told, "UnsupportedOperationException")
    assert told.message.startswith(f"{op} is not done: ")
    assert client.read("/data/f").body == b"x"


@pytest.mark.parametrize(
    ("method", "op"),
    [("GET", "DELETE"), ("DELETE", "OPEN"), ("GET", "NONE"), ("HEAD", "OPEN"), ("OPTIONS", "OPEN"), ("PATCH", "X")],
)
def test_an_operation_by_another_method_is_none(client: Client, method: str, op: str) -> None:
    assert client.ask(method, "/data/f", op).status == 400


def test_a_store_that_cannot_be_reached_is_no_file_that_is_not_there(
    served: tuple[RunningGateway, Client],
) -> None:
    from headrace.model.errors import Unavailable

    running, client = served

    class Away(MemoryStore):
        async def info(self, key: str) -> object:  # type: ignore[override]
            raise Unavailable("away")

    running.namespace.table = MountTable([Mount("/data", MountSpec("/data", "memory://"), Away())])
    for told in (client.read("/data/f"), client.ask("GET", "/data/f", "GETFILESTATUS")):
        assert (told.status, told.exception, told.headers["retry-after"]) == (503, "RetriableException", "1")
    assert client.ask("DELETE", "/data/f", "DELETE").status != 404
