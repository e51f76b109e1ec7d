"""Real processes killed at any instant: the old object or the new one, whole, and nothing else that lasts."""

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.model.objects import ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import BytesBody
from headrace.stores.contract import read_all
from headrace.stores.file import FileStore

WRITING = """
import asyncio, sys
from headrace.model.writing import Attributes, BytesBody
from headrace.stores.contract_tools import PiecesBody
from headrace.stores.file import FileStore

def body(number):
    return (b"%08d" % number) * (1 + number * 7919 % 300_000)

async def main():
    store = FileStore(sys.argv[1], min_part_bytes=1)
    number = int(sys.argv[2])
    keys = sys.argv[3:]
    while True:
        key = keys[number % len(keys)]
        data = body(number)
        attributes = Attributes(metadata=(("number", str(number)),))
        if number % 3 == 0:
            upload = await store.multipart().begin(key, attributes)
            cut = len(data) // 2
            parts = [await store.multipart().put(upload, n, BytesBody(d)) for n, d in ((1, data[:cut]), (2, data[cut:]))]
            print("completing", number, upload.id, *[part.etag for part in parts], flush=True)
            await store.multipart().complete(upload, tuple(parts))
        elif number % 3 == 1:
            await store.write(key, PiecesBody([data[i:i + 100_000] for i in range(0, len(data), 100_000)]), attributes)
        else:
            await store.write(key, BytesBody(data), attributes)
        print("done", number, flush=True)
        number += 1

asyncio.run(main())
"""
KEYS = ("plain/deep/k", "odd//k", "k")


def body(number: int) -> bytes:
    return (b"%08d" % number) * (1 + number * 7919 % 300_000)


async def run_and_kill(root: Path, number: int, draw: random.Random) -> tuple[int, list[str]]:
    """Write on from `number` and kill at some instant: the last number acknowledged, and the last completion begun."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITING, str(root), str(number), *KEYS, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first = await asyncio.wait_for(process.stdout.readline(), 30)
    assert first, await process.stderr.read()
    try:
        await asyncio.wait_for(process.wait(), draw.uniform(0.0, 0.15))
    except TimeoutError:
        process.kill()
    lines = (first + await process.stdout.read()).split(b"\n")[:-1]  # the last one may be cut off
    await process.wait()
    said = [line.decode().split() for line in lines]
    done = [int(words[1]) for words in said if words[0] == "done"]
    completing = [words[1:] for words in said if words[0] == "completing"]
    return (done[-1] if done else number - 1), (completing[-1] if completing else [])


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_writers_leave_whole_objects(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    draw = random.Random(11)
    last = -1
    for _ in range(25):
        number = last + 1
        last, completing = await run_and_kill(root, number, draw)
        store = FileStore(str(root), min_part_bytes=1)
        await check_objects(store, last)
        if completing and int(completing[0]) == last + 1:
            last = await complete_again(store, last, completing)
        await store.close()
    assert last > 25
    await nothing_lasts(root)


async def check_objects(store: FileStore, last: int) -> None:
    """Each key holds what was acknowledged last for it, or what was being written after that."""
    listed = {entry.key: entry for entry in (await store.list()).entries if isinstance(entry, ObjectInfo)}
    assert set(listed) <= set(KEYS)
    for position, key in enumerate(KEYS):
        mine = [number for number in range(last + 2) if number % len(KEYS) == position]
        acknowledged = [number for number in mine if number <= last]
        if not acknowledged and key not in listed:
            continue
        info = await store.info(key)
        number = int(dict(info.metadata)["number"])
        assert number in mine[len(acknowledged) - 1 if acknowledged else 0 :]
        data = await read_all(store, key)
        assert data == body(number)
        assert info.etag == hashlib.md5(data).hexdigest() or info.etag.endswith("-2")
        assert listed[key].etag == info.etag


async def complete_again(store: FileStore, last: int, completing: list[str]) -> int:
    """The completion that was cut off is asked for once more: it has happened, or it happens now."""
    number, upload_id, *etags = completing
    key = KEYS[int(number) % len(KEYS)]
    parts = tuple(Part(position, etag) for position, etag in enumerate(etags, 1))
    info = await store.multipart().complete(Upload(key, upload_id), parts)
    assert info.size == len(body(int(number)))
    assert await read_all(store, key) == body(int(number))
    return last + 1


async def nothing_lasts(root: Path) -> None:
    """Once what is left is old, a sweep removes it, and the objects stay."""
    store = FileStore(str(root), min_part_bytes=1)
    before = [(entry.key, await read_all(store, entry.key)) for entry in (await store.list()).entries]
    for folder in ("tmp", "removed", "uploads", "completed"):
        for path in (root / ".headrace" / folder).glob("*"):
            os.utime(path, (1, 1))
    await store._root.run(store._sweeper.sweep, "")
    left = [path for folder in ("tmp", "removed", "uploads", "completed") for path in (root / ".headrace" / folder).glob("*")]
    assert left == []
    assert [(entry.key, await read_all(store, entry.key)) for entry in (await store.list()).entries] == before
    await store.write("after", BytesBody(b"x"))
    await store.close()
