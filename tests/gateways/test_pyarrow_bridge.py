"""PyArrow's own tests of filesystems, on ours through the fsspec bridge: those that need no empty directory.

No store of keys has those. What they leave out is tested below: a directory is there as soon as it holds something.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSelector, FileType, FSSpecHandler, PyFileSystem
from pyarrow.tests.test_fs import (  # noqa: F401 (collected here)
    test_copy_file,
    test_delete_file,
    test_filesystem_equals_none,
    test_filesystem_pickling,
    test_move_file,
    test_non_path_like_input_raises,
    test_normalize_path,
    test_open_append_stream,
    test_open_input_file,
    test_open_input_stream,
    test_open_input_stream_not_found,
    test_open_output_stream,
    test_open_output_stream_metadata,
)

from headrace.fs import HeadraceFileSystem
from support.node import RunningNode, running_node
from support.writable import config_of

pytestmark = pytest.mark.servers

_numbers = itertools.count()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    root = tmp_path_factory.mktemp("node")
    with running_node(root / "home", config_of(root / "store"), processes=2) as running:
        yield running


@pytest.fixture
def ours(node: RunningNode) -> Iterator[HeadraceFileSystem]:
    opened = HeadraceFileSystem(endpoint=node.data_url, key_id=node.key_id, secret=node.secret, mode="remote")
    yield opened
    opened.session.close()
    HeadraceFileSystem.clear_instance_cache()


@pytest.fixture
def fs(ours: HeadraceFileSystem) -> PyFileSystem:
    return PyFileSystem(FSSpecHandler(ours))


@pytest.fixture
def pathfn() -> Callable[[str], str]:
    return f"b/p{next(_numbers)}/".__add__


@pytest.fixture
def allow_append_to_file() -> bool:
    return True


@pytest.fixture
def pickle_with_and_without_subtree_filesystem() -> Any:
    return pickle


@pytest.fixture
def tempdir(tmp_path: Path) -> Path:
    return tmp_path


def test_directories_are_there_as_soon_as_they_hold_something(fs: PyFileSystem, pathfn: Callable[[str], str]) -> None:
    for name in ("a/aa/one", "a/two", "three"):
        with fs.open_output_stream(pathfn(name)) as file:
            file.write(b"test")
    kinds = {info.path: info.type for info in fs.get_file_info([pathfn("a/aa"), pathfn("a/two"), pathfn("zzz")])}
    assert list(kinds.values()) == [FileType.Directory, FileType.File, FileType.NotFound]
    found = fs.get_file_info(FileSelector(pathfn("").rstrip("/"), recursive=True))
    assert sorted((info.path, info.type, info.size) for info in found) == [
        (pathfn("a"), FileType.Directory, None),
        (pathfn("a/aa"), FileType.Directory, None),
        (pathfn("a/aa/one"), FileType.File, 4),
        (pathfn("a/two"), FileType.File, 4),
        (pathfn("three"), FileType.File, 4),
    ]
    assert fs.get_file_info(FileSelector(pathfn("nothing"), allow_not_found=True)) == []
    with pytest.raises(FileNotFoundError):
        fs.get_file_info(FileSelector(pathfn("nothing")))
    fs.delete_dir_contents(pathfn("a"))
    assert [info.path for info in fs.get_file_info(FileSelector(pathfn("").rstrip("/")))] == [pathfn("three")]
    fs.delete_dir(pathfn("").rstrip("/"))
    assert fs.get_file_info(pathfn("three")).type == FileType.NotFound


def test_a_directory_is_moved(fs: PyFileSystem, pathfn: Callable[[str], str]) -> None:
    with fs.open_output_stream(pathfn("from/deep/one")) as file:
        file.write(b"test")
    fs.move(pathfn("from"), pathfn("to"))
    assert fs.get_file_info(pathfn("from")).type == FileType.NotFound
    with fs.open_input_stream(pathfn("to/deep/one")) as file:
        assert file.read() == b"test"
