"""A namespace inside the caller's process: no node, the same pages, and the same bounds on them."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from headrace.client import Client
from headrace.model.errors import NotFound

MIB = 1 << 20


@pytest.fixture
def config(tmp_path: Path) -> str:
    store = tmp_path / "store"
    store.mkdir()
    for number in range(12):
        (store / f"o{number}").write_bytes(os.urandom(MIB))
    path = tmp_path / "headrace.toml"
    path.write_text(
        f'[server]\nhome = "{tmp_path}/home"\ndata_listen = "127.0.0.1:1"\n\n'
        f'[cache]\nmemory = "0"\ndisk = [{{ path = "pages", capacity = "4MiB" }}]\n\n'
        f'[[mount]]\npath = "/d"\nstore = "file://{store}"\n'
    )
    return str(path)


def on_disk(tmp_path: Path) -> int:
    size = 0
    for path in tmp_path.glob("home/pages/???/*"):
        with contextlib.suppress(FileNotFoundError):  # renamed or evicted since it was listed
            size += path.stat().st_size
    return size


def test_an_embedded_client_reads_lists_and_says_what_is_missing(config: str, tmp_path: Path) -> None:
    with Client.connect(config, mode="embedded") as client:
        assert client.read("/d/o3") == (tmp_path / "store" / "o3").read_bytes()
        assert len(list(client.ls("/d/"))) == 12
        with pytest.raises(NotFound):
            client.stat("/d/none")


def test_pages_stay_within_their_capacity_without_a_node(config: str, tmp_path: Path) -> None:
    with Client.connect(config, mode="embedded") as client:
        for number in range(12):
            assert client.read(f"/d/o{number}") == (tmp_path / "store" / f"o{number}").read_bytes()
        deadline = time.monotonic() + 30
        while on_disk(tmp_path) > 4 * MIB:
            assert time.monotonic() < deadline, f"{on_disk(tmp_path)} bytes of pages, 4 MiB allowed"
            time.sleep(0.05)
