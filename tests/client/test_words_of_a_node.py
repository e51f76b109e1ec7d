"""What a Python program is told when a real node refuses it, or has nothing: what, why, and the next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.fs import HeadraceFileSystem
from headrace.model.errors import AccessDenied, NotFound, Unavailable
from support.node import RunningNode, running_node
from support.servers import S3Server

pytestmark = pytest.mark.servers

BODY = b"0123456789" * 20_000

CALLS: dict[str, Callable[[HeadraceFileSystem, str], Any]] = {
    "info": lambda fs, path: fs.info(path),
    "ls": lambda fs, path: fs.ls(path),
    "cat": lambda fs, path: fs.cat_file(path),
    "open": lambda fs, path: fs.open(path),
    "ranges": lambda fs, path: fs.cat_ranges([path], [0], [9], on_error="raise"),
    "exists": lambda fs, path: fs.exists(path),
    "find": lambda fs, path: fs.find(path),
    "walk": lambda fs, path: list(fs.walk(path)),
    "get": lambda fs, path: fs.get_file(path, "/dev/null/nowhere"),
}
"""Every way to ask. A refusal is said by each of them; what is missing, by those that do not merely look for it."""

LOOKS = frozenset(("exists", "find", "walk"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, seaweedfs_server: S3Server) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("words")
    (folder / "data").mkdir()
    (folder / "data/x").write_bytes(BODY)
    if not any(bucket["Name"] == "words" for bucket in seaweedfs_server.client().list_buckets()["Buckets"]):
        seaweedfs_server.make_bucket("words")
    mounts = {
        "/data": f'store = "file://{folder}/data"',
        "/refused": f'store = "s3://words"\nendpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:WRONG"',
        "/gone": f'store = "s3://no-such-bucket"\nendpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:RIGHT"',
        "/away": 'store = "s3://words"\nendpoint = "http://127.0.0.1:1"\ncredentials = "env:RIGHT"\ntimeout = "1s"',
    }
    config = "".join(f'[[mount]]\npath = "{path}"\n{options}\n' for path, options in mounts.items())
    config += '[[key]]\nid = "guest"\nsecret = "env:GUEST"\n[[rule]]\npath = "/data"\ncallers = ["guest"]\neffect = "deny"\n'
    environ = {
        "WRONG_ACCESS_KEY_ID": "nobody",
        "WRONG_SECRET_ACCESS_KEY": "nothing",
        "RIGHT_ACCESS_KEY_ID": seaweedfs_server.access_key,
        "RIGHT_SECRET_ACCESS_KEY": seaweedfs_server.secret_key,
        "GUEST": "a-secret-of-the-guest",
    }
    with running_node(folder / "node", config, processes=1, environ=environ) as running:
        yield running


def filesystem(node: RunningNode, key_id: str, secret: str, endpoint: str = "") -> Iterator[HeadraceFileSystem]:
    config, url = str(node.config), endpoint or node.data_url
    fs = HeadraceFileSystem(config, endpoint=url, key_id=key_id, secret=secret, mode="remote", skip_instance_cache=True)
    yield fs
    fs.session.close()


@pytest.fixture
def fs(node: RunningNode) -> Iterator[HeadraceFileSystem]:
    yield from filesystem(node, node.key_id, node.secret)


@pytest.fixture
def guest(node: RunningNode) -> Iterator[HeadraceFileSystem]:
    yield from filesystem(node, "guest", "a-secret-of-the-guest")


@pytest.fixture
def stranger(node: RunningNode) -> Iterator[HeadraceFileSystem]:
    yield from filesystem(node, "nobody", "nothing")


@pytest.fixture
def lost(node: RunningNode) -> Iterator[HeadraceFileSystem]:
    yield from filesystem(node, node.key_id, node.secret, "http://127.0.0.1:1")


@pytest.mark.parametrize("name", CALLS)
def test_a_refusal_says_whose_it_is_whatever_is_asked(
    fs: HeadraceFileSystem, guest: HeadraceFileSystem, stranger: HeadraceFileSystem, name: str
) -> None:
    by_rule = r"^your key may not read /data/x/?: a rule of the node refuses it$"
    by_store = r"^the store behind /refused refused the mount's credentials: see `headrace doctor`$"
    by_key = r"^the node at 127\.0\.0\.1:\d+ does not accept your key \(InvalidAccessKeyId\): is it the key of another node\?$"
    for who, path, said in ((guest, "data/x", by_rule), (fs, "refused/x", by_store), (stranger, "data/x", by_key)):
        with pytest.raises(AccessDenied, match=said):
            CALLS[name](who, path)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - LOOKS))
def test_what_is_missing_is_named_with_where_to_look(fs: HeadraceFileSystem, name: str) -> None:
    with pytest.raises(NotFound, match=r"^there is no /data/none: `headrace ls` shows what there is$"):
        CALLS[name](fs, "data/none")
    with pytest.raises(NotFound, match=r"^nothing is mounted at /nowhere; mounts: /away, /data, /gone, /refused$"):
        CALLS[name](fs, "nowhere/x")


@pytest.mark.parametrize("name", ["info", "ls", "open"])
def test_a_mount_whose_bucket_is_missing_is_mounted_all_the_same(fs: HeadraceFileSystem, name: str) -> None:
    with pytest.raises(NotFound, match=r"^the store behind /gone has no such bucket: see `headrace doctor`"):
        CALLS[name](fs, "gone/x")


def test_a_mount_is_no_object(fs: HeadraceFileSystem) -> None:
    with pytest.raises(NotFound, match=r"^/data is no object: name one below it; `headrace ls /data` shows what there is$"):
        fs.cat_file("data")
    with pytest.raises(NotFound, match=r"^nothing is to be had at /nowhere: `headrace mount ls`"):
        fs.info("nowhere")


def test_a_store_that_is_away_is_no_empty_directory_and_closes_the_way_to_no_other(fs: HeadraceFileSystem) -> None:
    for name in ("ls", "cat", "walk"):
        with pytest.raises(Unavailable, match=r"^the store behind /away cannot be asked now: see `headrace status`$"):
            CALLS[name](fs, "away/x")
        assert fs.cat_file("data/x") == BODY
        assert fs.ls("data", detail=False) == ["data/x"]


def test_a_node_that_is_not_there_is_said_with_how_to_start_it(lost: HeadraceFileSystem) -> None:
    for call in CALLS.values():
        with pytest.raises(Unavailable, match=r"^no node answers at 127\.0\.0\.1:1 \(connection refused\): start one with"):
            call(lost, "data/x")
