"""A whole system to break: SeaweedFS, a fault proxy in front of it, and a real `headrace up` that reads through the proxy."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from headrace.model.sigv4 import SigningIdentity
from headrace.testing.http_faults import Action, Fault, When
from headrace.testing.proxy import FaultProxy, Seen
from support.load import Answer, RawClient, Signer, get_once, stamped, version_of
from support.node import RunningNode, start_node, stop_node
from support.servers import S3Server

PAGE = 64 * 1024
CHUNK = 64 * PAGE
_SEGMENT = re.compile(r"[0-9a-f]{32}\.(w|[cp][0-9a-f]+)")
_numbers = itertools.count()


@dataclass
class Rig:
    """`/data` is the bucket through the proxy, `/calm` the same bucket without it."""

    store: S3Server
    bucket: str
    proxy: FaultProxy
    node: RunningNode
    signer: Signer

    async def put(self, key: str, version: int, size: int) -> bytes:
        """Write a stamped object at the store, behind Headrace's back."""
        body = stamped(key, version, size)
        await asyncio.to_thread(self.store.put, self.bucket, key, body)
        return body

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self.store.delete, self.bucket, key)

    async def get(self, key: str, **options: int | str | float | None) -> Answer:
        return await get_once(self.signer, f"/data/{key}", **options)

    async def right(self, key: str, size: int, *, start: int = 0, end: int | None = None) -> int:
        """Read, insist on a whole success, and say which version it was."""
        last = None if end is None else end - 1
        answer = await self.get(key, first=start if start or end is not None else None, last=last)
        assert answer.whole, f"{key}: {answer.status} {answer.headers} {answer.body[:300]!r}"
        assert len(answer.body) == (size if end is None else min(end, size)) - start
        return version_of(answer.body, key, size, start=start)

    def client(self) -> RawClient:
        return RawClient(self.signer)

    def fault(self, name: str, action: Action, *, when: When | None = None) -> None:
        self.proxy.plan.add(Fault(name, action, when or When()))

    def heal(self) -> None:
        self.proxy.plan.clear()
        self.proxy.accept()

    @property
    def happened(self) -> dict[str, int]:
        return self.proxy.happened

    def gets(self, key: str) -> list[Seen]:
        """GETs of an object that came to the store since `forget`."""
        return [seen for seen in self.proxy.seen if seen.method == "GET" and urlsplit(seen.target).path.endswith(f"/{key}")]

    def forget(self) -> None:
        self.proxy.seen.clear()

    @property
    def pages(self) -> Path:
        return self.node.home / "pages"

    def page_files(self) -> list[Path]:
        """Everything that holds bytes of pages."""
        return [path for path in self.pages.rglob("*") if _SEGMENT.fullmatch(path.name) and path.is_file()]

    async def restart(self) -> None:
        """Start again on the same home after the node was stopped or killed."""
        config = self.node.config.read_text().partition("\n\n")[2]
        processes = next(int(line.split("=")[1]) for line in self.node.config.read_text().splitlines() if "processes" in line)
        environ = {name: self.node.environ[name] for name in ("RIG_ACCESS_KEY_ID", "RIG_SECRET_ACCESS_KEY")}
        self.node = await asyncio.to_thread(start_node, self.node.home.parent, config, processes=processes, environ=environ)
        self.signer = Signer(self.node.data, self.node.key_id, self.node.secret)

    def every_pid(self) -> list[int]:
        """The node's processes, the supervisor first."""
        return [self.node.process.pid, *children_of(self.node.process.pid)]


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def rig(
    folder: Path,
    store: S3Server,
    *,
    mount: str = 'freshness = "1s"',
    cache: str = "",
    more: str = "",
    processes: int = 1,
    faults: Sequence[Fault] = (),
) -> AsyncIterator[Rig]:
    """`mount` and `cache` are lines of TOML of that table; `more` is whole tables."""
    bucket = f"rig-{os.getpid()}-{next(_numbers)}"
    await asyncio.to_thread(store.make_bucket, bucket)
    parts = urlsplit(store.endpoint)
    assert parts.hostname and parts.port
    identity = SigningIdentity(store.access_key, store.secret_key, "us-east-1")
    async with FaultProxy((parts.hostname, parts.port), faults, identity=identity) as proxy:
        config = "[cache]\n" + (cache or 'memory = "64MiB"\ndisk = [{ path = "pages", capacity = "1GiB" }]') + "\n"
        for path, endpoint, options in (("/data", proxy.endpoint, mount), ("/calm", store.endpoint, 'freshness = "1s"')):
            config += f'[[mount]]\npath = "{path}"\nstore = "s3://{bucket}"\nendpoint = "{endpoint}"\n'
            config += f'credentials = "env:RIG"\n{options}\n'
        environ = {"RIG_ACCESS_KEY_ID": store.access_key, "RIG_SECRET_ACCESS_KEY": store.secret_key}
        node = await asyncio.to_thread(start_node, folder, config + more, processes=processes, environ=environ)
        running = Rig(store, bucket, proxy, node, Signer(node.data, node.key_id, node.secret))
        try:
            yield running
        finally:
            proxy.plan.clear()
            await asyncio.to_thread(stop_node, running.node)
