"""fsspec's own abstract tests, through its `webhdfs` file system and over a gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fsspec.implementations.webhdfs import WebHDFS
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from headrace.stores.memory import MemoryStore
from support.webhdfs import USER, webhdfs


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, int]]:
    with webhdfs({"/b": MemoryStore()}) as (_, client):
        yield client.host, client.port


class TestWebHdfs(AbstractCopyTests, AbstractGetTests, AbstractPutTests, AbstractOpenTests, AbstractPipeTests, AbstractFixtures):
    @pytest.fixture
    def fs(self, place: tuple[str, int]) -> WebHDFS:
        return WebHDFS(place[0], port=place[1], user=USER, skip_instance_cache=True)

    @pytest.fixture
    def fs_path(self) -> str:
        return "/b/tests"


def test_a_file_is_read_in_pieces_written_and_appended_to(place: tuple[str, int]) -> None:
    fs = WebHDFS(place[0], port=place[1], user=USER, skip_instance_cache=True)
    data = bytes(range(256)) * 50_000
    with fs.open("/b/d/file", "wb", block_size=5 << 20) as file:
        file.write(data)
    with fs.open("/b/d/file", "ab") as file:
        file.write(b"more")
    assert fs.info("/b/d/file")["size"] == len(data) + 4
    with fs.open("/b/d/file", "rb", block_size=64 * 1024) as file:
        file.seek(1_000_003)
        assert file.read(300_000) == data[1_000_003:1_300_003]
        file.seek(-2, 2)
        assert file.read() == b"re"
    assert fs.cat_file("/b/d/file", start=5, end=9) == data[5:9]
    assert fs.find("/b/d") == ["/b/d/file"]
    assert fs.content_summary("/b/d")["fileCount"] == 1
    assert fs.ukey("/b/d/file")["algorithm"] == "MD5-of-0MD5-of-512CRC32C"
    fs.chmod("/b/d/file", 600)
    fs.chown("/b/d/file", owner="ann", group="staff")
    assert fs.home_directory() == f"/user/{USER}"
    fs.mv("/b/d/file", "/b/d/moved")
    fs.rm("/b/d", recursive=True)
    assert not fs.exists("/b/d")
