from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client import Client
from headrace.console.copying import CHUNK_BYTES, copy_object, part_name, target_for
from headrace.model.errors import HeadraceError, InvalidKey
from headrace.namespace.namespace import Namespace
from headrace.session import Session, SessionOptions
from headrace.stores.file import FileStore
from support.sliced import namespace_of

DATA = os.urandom(3 * CHUNK_BYTES + 17)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    (place / "sub").mkdir(parents=True)
    (place / "a.bin").write_bytes(DATA)
    (place / "sub" / "b.bin").write_bytes(b"bb")
    (place / "empty").write_bytes(b"")
    return place


@pytest.fixture
def config(tmp_path: Path, store: Path) -> str:
    file = tmp_path / "headrace.toml"
    file.write_text(
        f'[server]\nhome = "{tmp_path}/home"\ndata_listen = "127.0.0.1:1"\n'
        f'[[mount]]\npath = "/data"\nstore = "file://{store}"\nfreshness = "verify"\n'
    )
    return str(file)


@pytest.fixture
def client(store: Path) -> Iterator[Client]:
    async def opener(_options: SessionOptions) -> Namespace:
        return namespace_of(data=FileStore(str(store)))

    with Client(Session(SessionOptions(), opener)) as opened:
        yield opened


class Reports(list[int]):
    def __call__(self, count: int) -> None:
        self.append(count)


def test_a_copy_is_whole_and_leaves_nothing_beside_it(client: Client, tmp_path: Path) -> None:
    reports = Reports()
    result = copy_object(client, "/data/a.bin", tmp_path / "out" / "a.bin", reports)
    assert (tmp_path / "out" / "a.bin").read_bytes() == DATA
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.bin"]
    assert not result.skipped
    assert sum(reports) == len(DATA)


def test_an_empty_object_is_an_empty_file(client: Client, tmp_path: Path) -> None:
    copy_object(client, "/data/empty", tmp_path / "empty", Reports())
    assert (tmp_path / "empty").read_bytes() == b""


def test_the_same_version_is_not_copied_twice(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    copy_object(client, "/data/a.bin", target, Reports())
    inode = target.stat().st_ino
    assert copy_object(client, "/data/a.bin", target, Reports()).skipped
    assert target.stat().st_ino == inode


def test_a_new_version_of_the_same_length_is_copied(client: Client, store: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.bin"
    copy_object(client, "/data/sub/b.bin", target, Reports())
    (store / "sub" / "b.bin").write_bytes(b"cc")
    assert not copy_object(client, "/data/sub/b.bin", target, Reports()).skipped
    assert target.read_bytes() == b"cc"


def test_an_unfinished_copy_goes_on_where_it_ended(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    version = client.stat("/data/a.bin").version.token
    marked = b"M" * CHUNK_BYTES
    part_name(target, version).write_bytes(marked)
    copy_object(client, "/data/a.bin", target, Reports())
    assert target.read_bytes() == marked + DATA[CHUNK_BYTES:], "the first part was not asked for again"


def test_an_unfinished_copy_of_another_version_is_not_gone_on_with(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    part_name(target, "etag:other").write_bytes(b"old old old")
    copy_object(client, "/data/a.bin", target, Reports())
    assert target.read_bytes() == DATA


def test_a_part_file_that_is_a_link_is_not_followed(client: Client, tmp_path: Path) -> None:
    target, victim = tmp_path / "a.bin", tmp_path / "victim"
    victim.write_bytes(b"precious")
    part_name(target, client.stat("/data/a.bin").version.token).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        copy_object(client, "/data/a.bin", target, Reports())
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a//b", ".", "..", "a/./b", "x\0y", "", "a/", "n" * 256])
def test_keys_that_no_file_can_stand_for_are_refused(key: str) -> None:
    with pytest.raises(InvalidKey):
        target_for(Path("/somewhere/of/copies"), key)


@given(st.text(max_size=40))
def test_no_key_leaves_the_directory(key: str) -> None:
    root = Path("/somewhere/of/copies")
    try:
        target = target_for(root, key)
    except (HeadraceError, UnicodeEncodeError):
        return
    assert os.path.normpath(target) == str(target)
    assert str(target).startswith("/somewhere/of/copies/")


def run_cp(*args: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "headrace", "cp", *args], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_cp_copies_a_tree_and_only_what_changed(config: str, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = run_cp("-r", "/data", str(out), "--config", config)
    assert (code, said) == (0, "3 copied (12.0 MiB), 0 were there already\n")
    assert (out / "a.bin").read_bytes() == DATA
    assert (out / "sub" / "b.bin").read_bytes() == b"bb"
    (store / "sub" / "b.bin").write_bytes(b"new")
    code, said, _ = run_cp("-r", "/data", str(out), "--config", config, "--json")
    assert code == 0
    assert {json.loads(line)["key"]: json.loads(line)["skipped"] for line in said.splitlines()} == {
        "/data/a.bin": True,
        "/data/empty": True,
        "/data/sub/b.bin": False,
    }


def test_cp_of_one_object_into_a_directory_keeps_its_name(config: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run_cp("/data/sub/b.bin", str(tmp_path / "out"), "--config", config)[0] == 0
    assert (tmp_path / "out" / "b.bin").read_bytes() == b"bb"


def test_cp_of_nothing_fails_with_its_name(config: str, tmp_path: Path) -> None:
    code, _, err = run_cp("/data/missing", str(tmp_path / "x"), "--config", config)
    assert code == 1
    assert "/data/missing" in err
    assert not (tmp_path / "x").exists()
    assert run_cp("-r", "/data/missing", str(tmp_path / "y"), "--config", config)[0] == 1
