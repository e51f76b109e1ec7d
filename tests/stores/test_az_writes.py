import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.model.errors import ConditionFailed, Conflict, CorruptData, InvalidKey, NotFound, Unavailable, Unsupported
from headrace.model.objects import ByteRange
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.stores import az_copy, az_uploads
from headrace.stores.az import AzStore
from headrace.stores.az_requests import AzRequests
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_tools import PiecesBody
from headrace.stores.http import Http, HttpResponse
from support.cloud_stores import az_requests
from support.servers import AzureServer

pytestmark = pytest.mark.servers
_numbers = itertools.count()
LARGE = os.urandom((16 << 20) + 12_345)
ABSENT = Condition(if_none_match="*")


class Requests(AzRequests):
    """Carries out Put Block From URL itself, by reading what the address gives away, and loses answers."""

    def __init__(self, inner: AzRequests) -> None:
        self.__dict__ = inner.__dict__
        self.lost: list[str] = []
        self.from_url = 0
        self._reader = Http()

    def for_container(self, container: str) -> AzRequests:
        assert container == self.container
        return self

    async def send(self, method: str, key: str, **how: Any) -> HttpResponse:
        headers = dict(how.get("headers", ()))
        if "x-ms-source-range" in headers:
            self.from_url += 1
            asked = [("x-ms-range", headers["x-ms-source-range"]), ("if-match", headers["x-ms-source-if-match"])]
            source = await self._reader.request("GET", headers["x-ms-copy-source"], headers=asked)
            assert source.status == 206, source.status
            how = {"query": how["query"], "body": await source.read(64 << 20)}
        response = await super().send(method, key, **how)
        asked_for = f"{method} {key} {how.get('query', ())}"
        lost = next((text for text in self.lost if all(part in asked_for for part in text.split())), None)
        if lost is not None:
            self.lost.remove(lost)
            response.close()
            raise Unavailable("the answer is lost", path=key)
        return response

    async def close(self) -> None:
        await super().close()
        await self._reader.close()


@pytest.fixture
async def requests(azurite_server: AzureServer) -> AsyncIterator[Requests]:
    container = f"az-writes-{next(_numbers)}"
    azurite_server.make_bucket(container)
    requests = Requests(az_requests(azurite_server.endpoint, container))
    yield requests
    await requests.close()


@pytest.fixture
def store(requests: Requests) -> AzStore:
    return AzStore(requests, min_part_bytes=0)


@pytest.mark.parametrize("known", [True, False], ids=["known length", "unknown length"])
async def test_a_large_body_is_sent_in_blocks_and_has_its_md5(store: AzStore, known: bool) -> None:
    told = await store.write("a", PiecesBody([LARGE], len(LARGE) if known else None))
    info = await store.info("a")
    assert (told.etag, told.size, told.checksums) == (info.etag, info.size, info.checksums)
    assert "md5" in dict(info.checksums)
    assert await read_all(store, "a") == LARGE


async def test_a_large_copy_is_made_of_blocks_that_the_service_reads(
    store: AzStore, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(az_copy, "LARGEST_AT_ONCE", 1 << 20)
    monkeypatch.setattr(az_copy, "BLOCK_BYTES", 5 << 20)
    attributes = Attributes("text/x", (("cache-control", "max-age=1"),), (("owner", "me"),), (("t", "1"),))
    source = await store.write("dir/ä b.bin", BytesBody(LARGE), attributes)
    told = await store.copy(source, "copied")
    info = await store.info("copied")
    assert requests.from_url == 4
    assert await read_all(store, "copied") == LARGE
    assert told.etag == info.etag
    assert (info.content_type, info.headers, info.metadata) == ("text/x", attributes.headers, attributes.metadata)
    assert await store.tags("copied") == attributes.tags
    with pytest.raises(ConditionFailed):
        await store.copy(source, "copied", condition=ABSENT)


async def test_a_large_upload_is_published_from_its_own_blob(
    store: AzStore, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (az_copy, az_uploads):
        monkeypatch.setattr(module, "LARGEST_AT_ONCE", 1 << 20)
    upload = await store.multipart().begin("a", Attributes("text/x", metadata=(("owner", "me"), ("target", "b"))))
    parts = tuple([await store.multipart().put(upload, n, BytesBody(LARGE)) for n in (1, 2)])
    info = await store.multipart().complete(upload, parts)
    assert requests.from_url == 1
    assert await read_all(store, "a", ByteRange(len(LARGE) - 5, len(LARGE) + 5)) == LARGE[-5:] + LARGE[:5]
    assert (info.parts, info.content_type, info.metadata) == (2, "text/x", (("owner", "me"), ("target", "b")))
    assert (await store.list()).entries == (await store.list("a")).entries


async def test_uploads_outlive_other_writes_of_their_key(store: AzStore) -> None:
    upload = await store.multipart().begin("a")
    part = await store.multipart().put(upload, 1, BytesBody(b"part"))
    await store.write("a", BytesBody(b"small"))
    await store.write("a", BytesBody(LARGE))
    await store.multipart().complete(upload, (part,))
    assert await read_all(store, "a") == b"part"


async def test_of_two_large_writes_at_once_none_mixes_with_the_other(store: AzStore) -> None:
    bodies = [bytes([n]) * (9 << 20) for n in (1, 2)]
    answers = await asyncio.gather(*(store.write("a", BytesBody(body)) for body in bodies), return_exceptions=True)
    assert all(not isinstance(answer, BaseException) or isinstance(answer, Conflict) for answer in answers)
    assert await read_all(store, "a") in bodies


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
async def test_a_conditional_write_whose_answer_is_lost_is_recognised(store: AzStore, requests: Requests, body: bytes) -> None:
    requests.lost = ["PUT a ()"] if len(body) < 100 else ["PUT a blocklist"]
    told = await store.write("a", BytesBody(body), condition=ABSENT)
    assert told.version == (await store.info("a")).version
    assert requests.lost == []
    requests.lost = ["PUT b"]
    with pytest.raises(Unavailable):
        await store.write("b", BytesBody(b"in doubt"))


@pytest.mark.parametrize("lost", ["PUT .headrace/uploads blocklist", "PUT a ()"], ids=["joining", "publishing"])
async def test_a_completed_upload_whose_answer_is_lost_is_recognised(store: AzStore, requests: Requests, lost: str) -> None:
    upload = await store.multipart().begin("a")
    part = await store.multipart().put(upload, 1, BytesBody(b"part"))
    requests.lost = [lost]
    told = await store.multipart().complete(upload, (part,), condition=ABSENT)
    assert told.version == (await store.info("a")).version
    assert requests.lost == []
    assert (await store.multipart().list()).uploads == ()


async def test_the_blocks_of_a_broken_part_are_none(store: AzStore) -> None:
    upload = await store.multipart().begin("a")
    with pytest.raises(CorruptData):
        await store.multipart().put(upload, 1, PiecesBody([LARGE], len(LARGE) + 1))
    assert (await store.multipart().parts(upload)).parts == ()
    with pytest.raises(Unsupported, match="empty parts"):
        await store.multipart().put(upload, 1, BytesBody(b""))


async def test_the_store_s_own_blobs_are_no_keys(store: AzStore) -> None:
    for call in (store.info(".headrace/x"), store.write(".headrace/x", BytesBody(b"x")), store.delete(".headrace/x")):
        with pytest.raises(InvalidKey, match="belongs to the store itself"):
            await call


async def test_a_container_that_is_not_there_is_told_also_when_nothing_is_to_be_removed(azurite_server: AzureServer) -> None:
    store = AzStore(az_requests(azurite_server.endpoint, "not-there"))
    with pytest.raises(NotFound):
        await store.delete("a")
    with pytest.raises(NotFound):
        await store.write("a", BytesBody(b"x"))
    await store.close()
