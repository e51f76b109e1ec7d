"""What is promised to readers while objects change behind Headrace's back, through a whole node with two serving processes."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from support.load import Answer, RawClient, Signer, version_of
from support.rig import PAGE, Rig, rig
from support.servers import S3Server

pytestmark = pytest.mark.servers

SIZE = 6 * PAGE + 1000
OTHER_SECRET = "another-secret-for-tests"


@pytest.fixture
async def verifying(tmp_path: Path, seaweedfs_server: S3Server) -> AsyncIterator[Rig]:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "verify"', processes=2) as system:
        yield system


@pytest.fixture
async def second(tmp_path: Path, seaweedfs_server: S3Server) -> AsyncIterator[Rig]:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1s"', processes=2) as system:
        yield system


async def test_with_verify_every_read_sees_the_last_change_also_of_the_same_length(verifying: Rig) -> None:
    for version in range(1, 30):
        await verifying.put("o", version, SIZE)
        for _ in range(3):  # connections spread over both processes
            assert await verifying.right("o", SIZE) == version
            assert await verifying.right("o", SIZE, start=100, end=300) == version


async def test_with_a_duration_a_change_is_seen_when_it_is_over_at_the_latest(second: Rig) -> None:
    await second.put("o", 1, SIZE)
    assert await second.right("o", SIZE) == 1
    seen_old = 0
    for version in range(2, 7):
        await second.put("o", version, SIZE)
        changed = time.monotonic()
        while time.monotonic() - changed < 1.0:
            started = time.monotonic()
            got = await second.right("o", SIZE, start=0, end=200)
            assert got in (version - 1, version) or started - changed < 1.0
            seen_old += got == version - 1
            await asyncio.sleep(0.05)
        await asyncio.sleep(max(0.0, changed + 1.02 - time.monotonic()))
        for _ in range(6):
            assert await second.right("o", SIZE) == version
    assert seen_old, "the cache was never used"


async def test_a_missing_object_is_seen_no_later_than_freshness_after_it_came_and_a_deleted_one_gone(second: Rig) -> None:
    assert (await second.get("new")).status == 404
    await second.put("new", 1, SIZE)
    await asyncio.sleep(1.02)
    for _ in range(6):
        assert await second.right("new", SIZE) == 1
    await second.delete("new")
    await asyncio.sleep(1.02)
    for _ in range(6):
        assert (await second.get("new")).status == 404


async def test_an_immutable_object_is_asked_for_once(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "immutable"') as system:
        await system.put("o", 1, SIZE)
        assert await system.right("o", SIZE) == 1
        system.forget()
        for _ in range(5):
            assert await system.right("o", SIZE) == 1
        assert not system.proxy.seen


@pytest.mark.parametrize("sizes", [(SIZE, SIZE), (SIZE, SIZE * 2), (SIZE, 100)], ids=["same", "grows", "shrinks"])
async def test_range_reads_during_overwrites_are_never_mixed(sizes: tuple[int, int], verifying: Rig) -> None:
    """Each answer is held against the version that its own entity tag and length say it is."""
    await verifying.put("o", 1, sizes[0])
    stop = asyncio.Event()
    reads = 0
    versions: set[int] = set()

    async def read(seed: int) -> None:
        nonlocal reads
        chance = random.Random(seed)
        async with verifying.client() as client:
            while not stop.is_set():
                start = chance.randrange(sizes[0])
                answer = await client.get("/data/o", first=start, last=start + chance.choice((200, PAGE, SIZE)))
                if answer.status == 416 or answer.cut or answer.status == 503:
                    continue
                assert answer.status == 206, answer
                total = int(answer.headers["content-range"].rpartition("/")[2])
                if len(answer.body) >= 128:
                    versions.add(version_of(answer.body, "o", total, start=start))
                reads += 1

    readers = [asyncio.create_task(read(seed)) for seed in range(16)]
    for version in range(2, 32):
        await verifying.put("o", version, sizes[version % 2])
        await asyncio.sleep(0.03)
    stop.set()
    await asyncio.gather(*readers)
    assert reads > 40
    assert len(versions) > 3 or sizes[1] == 100


def keys_of(answer: Answer) -> tuple[list[str], str | None]:
    assert answer.status == 200, answer
    tree = ElementTree.fromstring(re.sub(rb' xmlns="[^"]+"', b"", answer.body))
    keys = [element.findtext("Key") or "" for element in tree.iter("Contents")]
    return keys, tree.findtext("NextContinuationToken")


@pytest.mark.parametrize("page", [1, 7, 1000])
async def test_a_listing_returns_every_key_that_stayed_exactly_once_while_others_come_and_go(page: int, verifying: Rig) -> None:
    stay = {f"s/{number:03d}-é" for number in range(60)}
    await asyncio.gather(*(verifying.put(key, 1, 100) for key in stay))
    stop = asyncio.Event()

    async def churn() -> None:
        number = 0
        while not stop.is_set():
            key = f"s/{number * 37 % 60:03d}-a"
            await verifying.put(key, 1, 100)
            await verifying.delete(key)
            number += 1

    churning = asyncio.create_task(churn())
    try:
        async with verifying.client() as client:
            for _ in range(3):
                listed: list[str] = []
                token: str | None = ""
                while token is not None:
                    more = f"&continuation-token={quote(token, safe='')}" if token else ""
                    keys, token = keys_of(await client.get(f"/data?list-type=2&max-keys={page}&prefix=s%2F{more}"))
                    assert len(keys) <= page
                    listed += keys
                assert listed == sorted(listed, key=str.encode)
                assert len(listed) == len(set(listed))
                assert stay <= set(listed)
    finally:
        stop.set()
        await churning


async def test_own_changes_of_mounts_drop_no_request(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"', processes=2) as system:
        await system.put("o", 1, SIZE)
        stop = asyncio.Event()
        reads = 0

        async def read() -> None:
            nonlocal reads
            async with system.client() as client:
                while not stop.is_set():
                    answer = await client.get("/data/o")
                    assert answer.whole, f"{answer.status} {answer.cut} {answer.body[:200]!r}"
                    version_of(answer.body, "o", SIZE)
                    reads += 1

        readers = [asyncio.create_task(read()) for _ in range(8)]
        spec = {"path": "/passing", "store": f"s3://{system.bucket}", "endpoint": system.store.endpoint, "credentials": "env:RIG"}
        for _ in range(5):
            await asyncio.to_thread(system.node.api, "/api/v1/mounts", method="POST", body=spec)
            async with system.client() as client:
                assert (await client.get("/passing/o")).whole
            await asyncio.to_thread(system.node.api, "/api/v1/mounts", method="DELETE", body={"path": "/passing"})
            async with system.client() as client:
                assert (await client.get("/passing/o")).status == 404
        stop.set()
        await asyncio.gather(*readers)
        assert reads > 50


async def test_a_cached_object_is_refused_to_a_caller_without_the_right_by_each_verb(
    tmp_path: Path, seaweedfs_server: S3Server
) -> None:
    rules = f"""
[[key]]
id = "guest"
secret = "{OTHER_SECRET}"
[[rule]]
path = "/calm"
callers = ["guest"]
"""
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"', more=rules, processes=2) as system:
        await system.put("secret", 1, SIZE)
        for _ in range(4):
            assert await system.right("secret", SIZE) == 1
        async with RawClient(Signer(system.node.data, "guest", OTHER_SECRET)) as guest:
            assert (await guest.get("/calm/secret")).whole
            for path, options in (("/data/secret", {}), ("/data/secret", {"first": 0, "last": 99}), ("/data?list-type=2", {})):
                answer = await guest.get(path, **options)
                assert (answer.status, b"AccessDenied" in answer.body) == (403, True)
                assert b"v0000000001" not in answer.body
            assert (await guest.get("/data/secret", method="HEAD")).status == 403
            assert (await guest.get("/data/not-there")).status == 403, "a missing object must look the same"


async def test_two_mounts_share_no_page_though_key_and_entity_tag_are_equal(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    """`/calm` and `/data` are the same bucket by different endpoints: different identities, so pages apart."""
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"') as system:
        await system.put("o", 1, SIZE)
        async with system.client() as client:
            assert (await client.get("/calm/o")).whole
        system.forget()
        assert await system.right("o", SIZE) == 1
        assert sum(seen.body_bytes for seen in system.gets("o")) >= SIZE
