"""A mount that may no longer keep pages on a disk: gone from there before anybody is told that it is so."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

from support.node import RunningNode, running_node, start_node, stop_node

MARK = os.urandom(32)
BODY = (MARK + bytes(32)) * (6 << 14)
"""6 MiB: two chunks."""


def fetch(node: RunningNode) -> bytes:
    with urllib.request.urlopen(node.data_url + "/data/secret.bin", timeout=30) as answer:
        return answer.read()


def marked_files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and MARK in path.read_bytes()]


def mount(root: Path, residency: str) -> str:
    return f'[[mount]]\npath = "/data"\nstore = "file://{root}"\nanonymous = true\nresidency = "{residency}"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    (store / "secret.bin").write_bytes(BODY)
    return store


@pytest.mark.servers
@pytest.mark.root
def test_pages_leave_the_disk_when_a_mount_becomes_memory_only_under_a_reader(tmp_path: Path, root: Path) -> None:
    with running_node(tmp_path / "node", "", processes=2) as node:
        node.cli("mount", "add", "/data", f"file://{root}", "--anonymous")
        for _ in range(4):
            assert fetch(node) == BODY
        assert marked_files(node.home)
        with urllib.request.urlopen(node.data_url + "/data/secret.bin", timeout=30) as reader:
            begun = reader.read(1 << 16)
            node.cli("mount", "set", "/data", "--residency", "memory")
            assert not marked_files(node.home)
            assert begun + reader.read() == BODY
        for _ in range(4):
            assert fetch(node) == BODY
        assert not marked_files(node.home)


@pytest.mark.servers
@pytest.mark.root
def test_a_mount_that_became_memory_only_in_the_file_finds_no_old_pages_after_a_restart(tmp_path: Path, root: Path) -> None:
    node = start_node(tmp_path / "node", mount(root, "disk"), processes=1)
    assert fetch(node) == BODY
    stop_node(node)
    assert marked_files(node.home)
    with running_node(tmp_path / "node", mount(root, "memory"), processes=1) as again:
        assert not marked_files(again.home)
        assert fetch(again) == BODY
        assert not marked_files(again.home)
