"""rclone, s3cmd and the AWS CLI write through a node and are read at the store, and the other way round."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.lakes import Passage, Side, read_tree, write_tree
from support.tools import PART_BYTES, AwsCli, Rclone, S3cmd, Tool

pytestmark = pytest.mark.servers

TOOLS: dict[str, Callable[[Side, Path], Tool]] = {"rclone": Rclone, "s3cmd": S3cmd, "aws": AwsCli}
LARGE = 3 * PART_BYTES + 7


def bodies() -> dict[str, bytes]:
    """Files with names and sizes that clients have stumbled over."""
    names = ("a.txt", "deep/er/still/b.bin", "with space/ü + %20.txt", "name~(1)!'*.csv")
    return {name: os.urandom(100 + number) for number, name in enumerate(names)} | {"empty": b"", "large.bin": os.urandom(LARGE)}


def home(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> Callable[[Side, Path], Tool]:
    return TOOLS[request.param]


def test_a_tree_is_copied_mirrored_and_removed(
    tool: Callable[[Side, Path], Tool], passage: Passage, prefix: str, tmp_path: Path
) -> None:
    place = f"{passage.bucket}/{prefix}"
    writer, reader = (tool(side, home(tmp_path, name)) for side, name in ((passage.writer, "w"), (passage.reader, "r")))
    tree = bodies()
    if tool is AwsCli and passage.writer == passage.lake.store:
        # SeaweedFS does not say `100 Continue` before an empty body, and the CLI misreads the next answer on that connection.
        del tree["empty"]
    folder = write_tree(tmp_path / "tree", tree)
    writer.push(folder, place)
    assert passage.found(prefix) == tree
    reader.pull(place, home(tmp_path, "pulled"))
    assert read_tree(tmp_path / "pulled") == tree
    writer.copy(f"{place}/large.bin", f"{place}/copied.bin")
    assert passage.found(prefix) == tree | {"copied.bin": tree["large.bin"]}
    assert passage.etag(f"{prefix}/large.bin").endswith("-4"), "it was not sent in parts"

    del tree["a.txt"], tree["large.bin"]
    (folder / "a.txt").unlink()
    (folder / "large.bin").unlink()
    tree |= {"deep/new": b"new", "empty": b"no longer"}
    write_tree(folder, tree)
    writer.mirror(folder, place)
    assert passage.found(prefix) == tree
    again = writer.mirror(folder, place)
    assert not any(name in again for name in ("deep/new", "empty", "b.bin")), again

    writer.remove(place)
    assert passage.found(prefix) == {}
