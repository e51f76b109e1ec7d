"""The store misbehaves: what readers get through a whole node is the right bytes, or an error, or an abort; never less."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import pytest

from headrace.testing.http_faults import (
    Action,
    Corrupt,
    Cut,
    Extend,
    Hang,
    IgnoreRange,
    Meanwhile,
    Rewrite,
    Truncate,
    When,
)
from headrace.testing.http_faults import (
    Answer as Answered,
)
from support.load import Answer, Refused, get_once, stamped, until, version_of
from support.rig import PAGE, Rig, rig
from support.servers import S3Server

pytestmark = pytest.mark.servers

SIZE = 3 * PAGE + 1000
BIG = 5 * 1024 * 1024
DOWN = "<Error><Code>ServiceUnavailable</Code><Message>injected</Message></Error>"
SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>injected</Message></Error>"


def one_version_or_no_success(answer: Answer, key: str, size: int) -> int | None:
    """The version of a whole answer; None for an error or an abort. Fails on anything else."""
    if answer.status >= 400:
        assert answer.status in (500, 502, 503, 504), f"{answer.status} {answer.body[:300]!r}"
        return None
    assert answer.headers["content-length"] == str(size)
    if answer.cut:
        return None
    return version_of(answer.body, key, size)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_three_refusals_and_then_bytes_are_one_success(
    status: int, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server) as system:
        await system.put(key, 1, SIZE)
        refusal = Answered(status, (("Retry-After", "1"),), SLOW_DOWN)
        system.fault("refused", refusal, when=When(path=key, times=3))
        started = time.monotonic()
        assert await system.right(key, SIZE) == 1
        assert system.happened["refused"] == 3
        assert time.monotonic() - started >= 1.0, "Retry-After was not waited for"
        tries = [(seen.method, seen.range) for seen in system.proxy.seen if key in seen.target]
        assert max(tries.count(each) for each in set(tries)) <= 4


async def test_a_store_that_refuses_for_good_leaves_cached_objects_readable_and_answers_503_for_others(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1h"\ntimeout = "2s"') as system:
        await system.put(key, 1, SIZE)
        await system.put(f"{key}-cold", 1, SIZE)
        assert await system.right(key, SIZE) == 1
        system.fault("refused", Answered(503, (), DOWN), when=When(times=0))
        assert await system.right(key, SIZE) == 1
        started = time.monotonic()
        answer = await system.get(f"{key}-cold")
        assert time.monotonic() - started < 5
        assert (answer.status, b"SlowDown" in answer.body or b"ServiceUnavailable" in answer.body) == (503, True)
        assert int(answer.headers["retry-after"]) >= 1
        assert system.happened["refused"] >= 1
        for _ in range(10):
            await system.get(f"{key}-cold")
        asked, started = system.happened["refused"], time.monotonic()
        while time.monotonic() - started < 3:
            assert (await system.get(f"{key}-cold")).status == 503
            await asyncio.sleep(0.05)
        assert system.happened["refused"] - asked <= 5, "a store that is away is asked more than once a second"
        system.heal()
        async with asyncio.timeout(5):
            while not (await system.get(f"{key}-cold")).whole:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("at", [0, 1, PAGE - 1, PAGE, PAGE + 1, -1])
async def test_a_cut_body_is_retried_or_aborted_and_never_a_short_success(
    at: int, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server) as system:
        await system.put(key, 1, SIZE)
        system.fault("cut", Cut(at), when=When("GET", path=key))
        assert one_version_or_no_success(await system.get(key), key, SIZE) in (1, None)
        assert system.happened["cut"] == 1
        assert await system.right(key, SIZE) == 1
        assert await system.right(key, SIZE, start=PAGE - 100, end=PAGE + 100) == 1


async def test_a_body_that_is_cut_each_time_is_an_abort_or_an_error_and_nothing_of_it_is_kept(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1s"\ntimeout = "2s"') as system:
        await system.put(key, 1, SIZE)
        system.fault("cut", Cut(PAGE + 1), when=When("GET", path=key, times=0))
        assert one_version_or_no_success(await system.get(key), key, SIZE) is None
        assert system.happened["cut"] >= 1
        system.heal()
        assert await system.right(key, SIZE) == 1


@pytest.mark.parametrize(
    "action",
    [
        Extend(100),
        Extend(100, announce=True),
        Truncate(PAGE + 7),
        IgnoreRange(),
        Rewrite((("ETag", '"ffffffffffffffffffffffffffffffff"'),)),
        Rewrite((("Content-Range", f"bytes 0-9/{SIZE}"),)),
        Rewrite((("Content-Range", ""),), status=200),
        Rewrite((("Content-Length", str(SIZE - 1)),)),
    ],
    ids=["longer", "announced-longer", "shorter", "no-range", "etag", "content-range", "200-to-range", "length"],
)
async def test_an_answer_that_contradicts_itself_is_refused_and_not_kept(
    action: Action, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    """Struck on every answer at first, so that an error or an abort is all a reader may get instead of right bytes."""
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "1s"\ntimeout = "2s"') as system:
        await system.put(key, 1, SIZE)
        await system.right(key, SIZE, start=0, end=100)  # what is asked below is a range of a known version
        system.fault("lie", action, when=When("GET", path=key, ranged=None, times=0))
        for start in (PAGE + 5, 2 * PAGE, 0):
            answer = await system.get(key, first=start, last=start + PAGE - 1)
            if answer.whole:
                assert version_of(answer.body, key, SIZE, start=start) == 1
                assert len(answer.body) == PAGE
            else:
                assert answer.cut or answer.status in (500, 502, 503), f"{answer.status} {answer.body[:200]!r}"
        assert system.happened["lie"] >= 1
        system.heal()
        await soon_right(system, key)


async def soon_right(system: Rig, key: str) -> None:
    """What the store lied about is believed for as long as `freshness` at most, and is never served as something else."""
    end = time.monotonic() + 5
    while one_version_or_no_success(await system.get(key), key, SIZE) is None:
        assert time.monotonic() < end, "the object stays unreadable after the store is well again"
        await asyncio.sleep(0.1)


async def test_a_wrong_entity_tag_on_one_part_drops_that_part(tmp_path: Path, seaweedfs_server: S3Server, key: str) -> None:
    async with rig(tmp_path, seaweedfs_server) as system:
        await system.put(key, 1, BIG)
        await system.right(key, BIG, start=0, end=100)
        system.fault("tag", Rewrite((("ETag", '"ffffffffffffffffffffffffffffffff"'),)), when=When("GET", path=key, skip=0))
        assert one_version_or_no_success(await system.get(key), key, BIG) in (1, None)
        assert system.happened["tag"] == 1
        assert await system.right(key, BIG) == 1


@pytest.mark.parametrize("at", [0, 1000, PAGE * 10, -1])
@pytest.mark.parametrize("freshness", ["verify", "1h"])
async def test_an_object_overwritten_in_the_middle_of_a_read_is_all_old_or_all_new_or_an_abort(
    at: int, freshness: str, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount=f'freshness = "{freshness}"') as system:
        await system.put(key, 1, BIG)
        await system.right(key, BIG, start=0, end=100)

        async def overwrite() -> None:
            await system.put(key, 2, BIG)

        system.fault("overwritten", Meanwhile(overwrite, at=at), when=When("GET", path=key))
        assert one_version_or_no_success(await system.get(key), key, BIG) in (1, 2, None)
        assert system.happened["overwritten"] == 1
        if freshness == "verify":
            assert await system.right(key, BIG) == 2
        else:
            # Whoever found out has told all: nobody else is cut because of that change.
            assert await system.right(key, BIG) in (1, 2)


async def test_an_object_deleted_in_the_middle_of_a_read_is_whole_or_an_abort_and_then_not_there(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server) as system:
        await system.put(key, 1, BIG)

        async def delete() -> None:
            await system.delete(key)

        system.fault("deleted", Meanwhile(delete, at=1000), when=When("GET", path=key))
        answer = await system.get(key)
        assert answer.status == 404 or one_version_or_no_success(answer, key, BIG) in (1, None)
        assert system.happened["deleted"] == 1
        await asyncio.sleep(1.1)
        assert (await system.get(key)).status == 404


@pytest.mark.parametrize("trouble", ["403", "hang", "refused"])
@pytest.mark.parametrize("serve_stale", [False, True])
async def test_a_store_that_cannot_be_asked_never_makes_a_cached_object_not_found_or_empty(
    trouble: str, serve_stale: bool, tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    stale = "serve_stale = true\n" if serve_stale else ""
    async with rig(tmp_path, seaweedfs_server, mount=f'freshness = "verify"\ntimeout = "1s"\n{stale}') as system:
        await system.put(key, 1, SIZE)
        assert await system.right(key, SIZE) == 1
        await until(lambda: bool(system.page_files()), "pages are on disk")
        files = {path.name for path in system.page_files()}
        if trouble == "403":
            system.fault("403", Answered(403, (), "<Error><Code>AccessDenied</Code></Error>"), when=When(times=0))
        elif trouble == "hang":
            system.fault("hang", Hang(at=None), when=When(times=0))
        else:
            system.proxy.refuse()
        answer = await system.get(key, timeout_s=20)
        listed = await get_once(system.signer, "/data?list-type=2", timeout_s=20)
        assert system.happened[{"refused": "refuse"}.get(trouble, trouble)] >= 1
        assert listed.status in (403, 503)
        if serve_stale:
            assert answer.whole, answer
            assert (version_of(answer.body, key, SIZE), answer.served) == (1, "stale")
        else:
            assert answer.status in ((403, 503) if trouble == "403" else (503,)), answer
        system.heal()
        await asyncio.sleep(1.1)  # the store is probed once a second
        system.forget()
        await soon_right(system, key)
        assert await system.right(key, SIZE) == 1
        assert not any(seen.status in (200, 206) for seen in system.gets(key)), "pages were thrown away"
        assert files <= {path.name for path in system.page_files()}


async def test_a_store_that_hangs_is_given_up_and_does_not_slow_the_other_mount(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "verify"\ntimeout = "2s"\nmax_connections = 4') as system:
        await system.put(key, 1, SIZE)

        async def p99() -> float:
            async with system.client() as client:
                return statistics.quantiles([(await client.get(f"/calm/{key}")).seconds for _ in range(200)], n=100)[98]

        before = await p99()
        system.fault("hang", Hang(at=None), when=When(times=0))
        started = time.monotonic()
        stuck = [asyncio.create_task(system.get(key, timeout_s=30)) for _ in range(32)]
        during = await p99()
        answers = await asyncio.gather(*stuck)
        assert system.happened["hang"] >= 1
        assert {answer.status for answer in answers} == {503}
        assert time.monotonic() - started < 20
        assert during < 3 * before + 0.02
        system.heal()
        assert await system.right(key, SIZE) == 1, "the slots of hung requests were not freed"


async def test_a_corrupted_byte_on_the_way_never_reaches_a_reader_of_a_small_object(
    tmp_path: Path, seaweedfs_server: S3Server, key: str
) -> None:
    """An ETag that is the MD5 of the bytes tells of a whole body whether it is right."""
    async with rig(tmp_path, seaweedfs_server) as system:
        await system.put(key, 1, 1000)
        system.fault("flip", Corrupt(500), when=When("GET", path=key))
        answer = await system.get(key)
        assert system.happened["flip"] == 1
        assert not answer.whole or answer.body == stamped(key, 1, 1000)
        await asyncio.sleep(1.1)
        assert await system.right(key, 1000) == 1


async def test_faults_by_chance_never_let_a_wrong_byte_through(tmp_path: Path, seaweedfs_server: S3Server, key: str) -> None:
    """Everything at once, by seed: each answer is one version, an error or an abort."""
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "verify"\ntimeout = "2s"') as system:
        keys = [f"{key[:8]}-{number}" for number in range(4)]
        for name in keys:
            await system.put(name, 1, BIG // 4)
        actions: list[Action] = [Answered(503, (), SLOW_DOWN), Cut(PAGE), Cut(0), Extend(9), Truncate(70_000), IgnoreRange()]
        for number, action in enumerate(actions):
            system.fault(f"chance-{number}", action, when=When("GET", times=0, chance=0.08))

        async def read(worker: int) -> int:
            whole = 0
            for step in range(25):
                name = keys[(worker + step) % len(keys)]
                try:
                    answer = await system.get(name)
                except Refused:
                    continue
                whole += one_version_or_no_success(answer, name, BIG // 4) is not None
            return whole

        async def overwrite() -> None:
            for version in range(2, 12):
                for name in keys:
                    await system.put(name, version, BIG // 4)

        *whole, _ = await asyncio.gather(*(read(worker) for worker in range(8)), overwrite())
        assert sum(whole) > 50
        assert sum(system.happened.values()) > 5, dict(system.happened)
