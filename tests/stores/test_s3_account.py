"""The account of an S3 store."""

from headrace.model.objects import CommonPrefix
from headrace.stores.memory import MemoryStore
from headrace.stores.s3_account import S3AccountStore
from support.s3_stores import s3_requests
from support.scripted import http_answer, scripted


async def test_buckets_are_asked_for_at_the_endpoint() -> None:
    body = b"<ListAllMyBucketsResult><Buckets><Bucket><Name>b</Name></Bucket></Buckets></ListAllMyBucketsResult>"
    async with scripted(lambda *_: http_answer(200, body)) as server:
        store = S3AccountStore(s3_requests(server.endpoint), lambda _: MemoryStore())
        assert (await store.list("", delimiter="/")).entries == (CommonPrefix("b/"),)
        await store.close()
        assert server.requests[0][0] == "GET / HTTP/1.1"
