"""fsspec's own abstract tests, through a real node, inside the process, and over a store in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from headrace.fs import HeadraceFileSystem
from headrace.stores.memory import MemoryStore
from support.node import RunningNode, running_node
from support.writable import config_of, embedded_fs, memory_fs, remote_fs


class Everything(AbstractCopyTests, AbstractGetTests, AbstractPutTests, AbstractOpenTests, AbstractPipeTests, AbstractFixtures):
    @pytest.fixture
    def fs_path(self) -> str:
        return "b/tests"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestMemory(Everything):
    @pytest.fixture
    def fs(self) -> HeadraceFileSystem:
        return memory_fs(MemoryStore())


class TestEmbedded(Everything):
    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[HeadraceFileSystem]:
        opened = embedded_fs(tmp_path)
        yield opened
        opened.session.close()

    @pytest.fixture
    def local_path(self, tmp_path_factory: pytest.TempPathFactory) -> str:
        return str(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module", params=["through", pytest.param("back", marks=pytest.mark.slow)])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    root: Path = tmp_path_factory.mktemp("node")
    with running_node(root / "home", config_of(root / "store", request.param), processes=2) as running:
        yield running


@pytest.mark.servers
class TestRemote(Everything):
    @pytest.fixture
    def fs(self, node: RunningNode) -> Iterator[HeadraceFileSystem]:
        opened = remote_fs(node)
        yield opened
        opened.session.close()
