import os
from collections.abc import AsyncIterator

import pytest

from headrace.model.errors import ConditionFailed, CorruptData, InvalidKey, NoSuchUpload, NotFound, Unavailable, Unsupported
from headrace.model.objects import ByteRange
from headrace.model.uploads import Part, Upload
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.stores import gs_buckets, gs_joining
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_tools import PiecesBody
from headrace.stores.gs import GsStore
from headrace.stores.gs_buckets import GsBuckets
from headrace.stores.gs_upload_folder import UploadFolder
from headrace.stores.upload_sweeper import UPLOAD_AGE_S
from support.cloud_stores import gs_requests, gs_store
from support.gcs_double import GcsDouble, gcs_double

LARGE = os.urandom((8 << 20) + 300_000)
ABSENT = Condition(if_none_match="*")


@pytest.fixture
async def double() -> AsyncIterator[GcsDouble]:
    async with gcs_double() as double:
        double.make_bucket("bucket")
        yield double


@pytest.fixture
async def store(double: GcsDouble) -> AsyncIterator[GsStore]:
    store = gs_store(double.endpoint, "bucket", min_part_bytes=0)
    yield store
    await store.close()


async def put_parts(store: GsStore, upload: Upload, count: int) -> tuple[Part, ...]:
    return tuple([await store.multipart().put(upload, n, BytesBody(b"%d" % n)) for n in range(1, count + 1)])


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
async def test_what_the_service_made_wrongly_is_removed_and_an_error(double: GcsDouble, store: GsStore, body: bytes) -> None:
    double.spoil = True
    with pytest.raises(Unavailable, match="removed again"):
        await store.write("a", BytesBody(body))
    with pytest.raises(NotFound):
        await store.info("a")
    await store.write("a", BytesBody(body))
    assert await read_all(store, "a") == body


async def test_parts_that_were_joined_wrongly_are_no_object(double: GcsDouble, store: GsStore) -> None:
    upload = await store.multipart().begin("a")
    parts = await put_parts(store, upload, 2)
    double.spoil = True
    with pytest.raises(Unavailable, match="removed again"):
        await store.multipart().complete(upload, parts)
    with pytest.raises(NotFound):
        await store.info("a")
    await store.multipart().complete(upload, parts)
    assert await read_all(store, "a") == b"12"


async def test_a_conditional_write_whose_answer_is_lost_is_recognised(double: GcsDouble, store: GsStore) -> None:
    double.lost = ["POST uploadType=multipart"]
    told = await store.write("a", BytesBody(b"small"), condition=ABSENT)
    assert told.version == (await store.info("a")).version
    assert double.lost == []


async def test_a_session_whose_last_answer_is_lost_is_asked(double: GcsDouble, store: GsStore) -> None:
    double.lost = ["PUT last-of-session"]
    told = await store.write("a", PiecesBody([LARGE], len(LARGE)))
    assert told.version == (await store.info("a")).version
    assert await read_all(store, "a") == LARGE
    assert double.lost == []


async def test_an_unconditional_write_whose_answer_is_lost_is_in_doubt(double: GcsDouble, store: GsStore) -> None:
    double.lost = ["POST uploadType=multipart"]
    with pytest.raises(Unavailable):
        await store.write("a", BytesBody(b"x"))


@pytest.mark.parametrize("condition", [Condition(), ABSENT], ids=["plain", "conditional"])
async def test_a_completed_upload_whose_answer_is_lost_is_recognised(
    double: GcsDouble, store: GsStore, condition: Condition
) -> None:
    upload = await store.multipart().begin("a")
    parts = await put_parts(store, upload, 3)
    double.lost = ["POST /o/a/compose"]
    told = await store.multipart().complete(upload, parts, condition=condition)
    assert told.version == (await store.info("a")).version
    assert double.lost == []
    assert [name for name in double.buckets["bucket"] if name.startswith(".headrace/")] == []


async def test_an_upload_whose_publishing_fails_may_be_completed_at_once(double: GcsDouble, store: GsStore) -> None:
    await store.write("a", BytesBody(b"old"))
    upload = await store.multipart().begin("a")
    parts = await put_parts(store, upload, 2)
    with pytest.raises(ConditionFailed):
        await store.multipart().complete(upload, parts, condition=ABSENT)
    await store.multipart().complete(upload, parts)
    assert await read_all(store, "a") == b"12"


async def test_more_parts_than_are_joined_at_once_are_joined_in_levels(
    double: GcsDouble, store: GsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gs_joining, "MOST", 3)
    upload = await store.multipart().begin("a", checksum="crc32c", checksum_type="FULL_OBJECT")
    parts = await put_parts(store, upload, 29)
    info = await store.multipart().complete(upload, parts)
    assert await read_all(store, "a") == b"".join(b"%d" % n for n in range(1, 30))
    assert sum("/compose" in path for _, path in double.requests) == 10 + 4 + 2 + 1
    assert await store.part(info, 29) == ByteRange(info.size - 2, info.size)
    assert list(double.buckets["bucket"]) == ["a"]


async def test_what_no_upload_needs_and_what_is_too_old_is_swept(double: GcsDouble, store: GsStore) -> None:
    fresh, old = await store.multipart().begin("fresh"), await store.multipart().begin("old")
    for upload in (fresh, old):
        await put_parts(store, upload, 2)
    objects = double.buckets["bucket"]
    aged = f"{int(old.id[:16], 16) - int((UPLOAD_AGE_S + 60) * 1e9):016x}{old.id[16:]}"
    objects[f".headrace/uploads/{aged}"] = objects.pop(f".headrace/uploads/{old.id}")
    objects[f".headrace/parts/{aged}/00001"] = objects[f".headrace/parts/{old.id}/00001"]
    requests = gs_requests(double.endpoint, "bucket")
    await UploadFolder(requests, ".headrace/").sweep()
    await requests.close()
    assert sorted(objects) == [
        f".headrace/parts/{fresh.id}/00001",
        f".headrace/parts/{fresh.id}/00002",
        f".headrace/uploads/{fresh.id}",
    ]


async def test_a_part_that_comes_after_the_end_of_its_upload_is_removed(double: GcsDouble, store: GsStore) -> None:
    upload = await store.multipart().begin("a")

    class Late(PiecesBody):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"late"
            await store.multipart().abort(upload)

    with pytest.raises(NoSuchUpload):
        await store.multipart().put(upload, 1, Late([], 4))
    assert double.buckets["bucket"] == {}


async def test_the_store_s_own_objects_are_no_keys(store: GsStore) -> None:
    for call in (store.info(".headrace/x"), store.write(".headrace/x", BytesBody(b"x")), store.delete(".headrace/x")):
        with pytest.raises(InvalidKey, match="belongs to the store itself"):
            await call


async def test_metadata_under_names_of_the_store_comes_back(double: GcsDouble, store: GsStore) -> None:
    metadata = (("headrace-tags", "mine"), ("headrace-user-x", "1"))
    await store.write("a", BytesBody(b"x"), Attributes(metadata=metadata, headers=(("expires", "soon"),)))
    info = await store.info("a")
    assert (info.metadata, info.headers, info.tag_count) == (metadata, (("expires", "soon"),), 0)
    with pytest.raises(Unsupported):
        await store.write("b", BytesBody(b"x"), Attributes(metadata=(("a", "b\nc"),)))
    assert list(double.buckets["bucket"]) == ["a"]


async def test_where_only_the_json_api_answers_reads_tell_metadata_all_the_same(double: GcsDouble, store: GsStore) -> None:
    told = await store.write("a", BytesBody(b"0123456789"), Attributes(metadata=(("owner", "me"),)))
    store._requests.xml_path = lambda key: "/nowhere/" + key  # type: ignore[method-assign]  # an emulator's own idea
    reading = await store.read("a", ByteRange(2, 5), version=told.version)
    assert reading.info == await store.info("a")
    assert b"".join([bytes(piece) async for piece in reading]) == b"234"


async def test_a_body_that_lies_is_refused_before_the_service_has_all(double: GcsDouble, store: GsStore) -> None:
    for length in (len(LARGE) - 1, len(LARGE) + 1):
        with pytest.raises(CorruptData):
            await store.write("a", PiecesBody([LARGE], length))
    assert double.buckets["bucket"] == {}


async def test_a_list_of_buckets_that_does_not_end_is_an_error_not_a_part_of_it(
    double: GcsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gs_buckets, "_MAX_PAGES", 3)
    double.next_bucket_page = "again"
    requests = gs_requests(double.endpoint)
    with pytest.raises(Unavailable, match="get ahead"):
        await GsBuckets(requests).list()
    double.next_bucket_page = ""
    assert [bucket.name for bucket in await GsBuckets(requests).list()] == ["bucket"]
    await requests.close()
