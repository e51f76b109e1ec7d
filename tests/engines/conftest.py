"""One node over one real store for all clients, a mount for each write mode, and a prefix of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from support.lakes import Lake, Passage, lakes
from support.servers import S3Server

_numbers = itertools.count()
_LONGER_WAYS = ("written back", "written at the store")


@pytest.fixture(scope="session")
def all_lakes(seaweedfs_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Lake]]:
    with lakes(tmp_path_factory.mktemp("lakes"), seaweedfs_server) as found:
        yield found


@pytest.fixture(params=["through", pytest.param("back", marks=pytest.mark.slow)])
def lake(all_lakes: dict[str, Lake], request: pytest.FixtureRequest) -> Lake:
    return all_lakes[request.param]


@pytest.fixture
def prefix() -> str:
    return f"p{next(_numbers)}"


@pytest.fixture(params=["written through", *(pytest.param(way, marks=pytest.mark.slow) for way in _LONGER_WAYS)])
def passage(all_lakes: dict[str, Lake], request: pytest.FixtureRequest) -> Passage:
    """Where a client writes and where it must be found: the node on one side, the store on the other."""
    lake = all_lakes["back" if request.param == "written back" else "through"]
    if request.param == "written at the store":
        return Passage(lake, writer=lake.store, reader=lake.gate)
    return lake.passage()
