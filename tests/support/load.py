"""Reading much and checking every byte: objects that say what they are, and a plain HTTP client that signs once.

boto3 costs its caller milliseconds per GET, so load comes from raw sockets with heads signed beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from headrace.model.sigv4 import SigningIdentity, UnsignedRequest, quote_path, sign_headers, split_query

LINE_BYTES = 64
_VERSION = re.compile(rb"\|v(\d{10})\|")
_SIGNED_FOR_S = 240.0


@functools.lru_cache(maxsize=64)
def stamped(name: str, version: int, size: int) -> bytes:
    """An object of `size` bytes whose every line of 64 bytes says its name, its version and where it stands."""
    head = f"{name:<20.20}|v{version:010d}|".encode()
    pad = b"." * (LINE_BYTES - len(head) - 15) + b"\n"
    lines = -(-size // LINE_BYTES)
    return b"".join([b"%b%012d|.%b" % (head, number, pad) for number in range(lines)])[:size]


def version_of(body: bytes, name: str, size: int, *, start: int = 0) -> int:
    """Which version of the object `body` is the bytes from `start` on of. Fails on a blend, a shift or foreign bytes."""
    found = _VERSION.search(body)
    assert found is not None, f"{name}: {len(body)} bytes from {start} without a stamp: {body[:80]!r}"
    version = int(found[1])
    wanted = stamped(name, version, size)[start : start + len(body)]
    if body != wanted:
        versions = sorted({int(text) for text in _VERSION.findall(body)})
        differs = next((i for i, (a, b) in enumerate(zip(body, wanted, strict=False)) if a != b), len(wanted))
        raise AssertionError(
            f"{name}: {len(body)} bytes from {start} are no one version: versions {versions}, differs at {differs}: "
            f"{body[max(0, differs - 64) : differs + 64]!r}"
        )
    return version


@dataclass(frozen=True)
class Answer:
    """One response. `cut`: the connection ended before `length` bytes had come, as a reader notices."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False
    seconds: float = 0.0

    @property
    def served(self) -> str:
        return self.headers.get("x-headrace-cache", "")

    @property
    def whole(self) -> bool:
        """A success of which every announced byte came."""
        return self.status in (200, 206) and not self.cut


class Refused(ConnectionError):
    """No answer: the connection was refused, or ended before a head came."""


@dataclass
class Signer:
    """Signs heads for one server, each only once in a while. Ranges are sent unsigned, as S3 allows."""

    netloc: str
    key_id: str
    secret: str
    _heads: dict[tuple[str, str], tuple[float, bytes]] = field(default_factory=dict)

    def head(self, method: str, path: str) -> bytes:
        known = self._heads.get((method, path))
        if known is None or time.monotonic() - known[0] > _SIGNED_FOR_S:
            bare, _, query = path.partition("?")
            raw = quote_path(bare.encode())
            pairs = tuple(split_query(query.encode()))
            request = UnsignedRequest(method.encode(), raw, pairs, ((b"host", self.netloc.encode()),))
            signed = sign_headers(request, SigningIdentity(self.key_id, self.secret, "us-east-1"), time.time())
            target = raw.decode() + (f"?{query}" if query else "")
            lines = [f"{method} {target} HTTP/1.1", f"host: {self.netloc}", *(f"{n}: {v}" for n, v in signed)]
            known = (time.monotonic(), "\r\n".join(lines).encode() + b"\r\n")
            self._heads[method, path] = known
        return known[1]


class RawClient:
    """One keep-alive connection, opened when needed and again after it ended."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def get(
        self, path: str, *, first: int | None = None, last: int | None = None, method: str = "GET", timeout_s: float = 60.0
    ) -> Answer:
        """One request; `first` and `last` are the ends of a Range, both included. Raises `Refused`, `TimeoutError`."""
        started = time.monotonic()
        head = self._signer.head(method, path)
        if first is not None:
            head += f"range: bytes={first}-{'' if last is None else last}\r\n".encode()
        async with asyncio.timeout(timeout_s):
            try:
                answer = await self._ask(head + b"\r\n", method)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.close()
                raise Refused(f"{method} {path}: {error!r}") from error
            except BaseException:
                self.close()
                raise
        return Answer(answer.status, answer.headers, answer.body, answer.cut, time.monotonic() - started)

    async def begin(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask on a connection of its own and leave the answer to the caller."""
        reader, writer = await self._open()
        writer.write(self._signer.head("GET", path) + b"\r\n")
        return reader, writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self._signer.netloc.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=1 << 20)

    async def _ask(self, raw: bytes, method: str) -> Answer:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await self._open()
        self._writer.write(raw)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        status = int(head[0].split(" ")[1])
        length = 0 if method == "HEAD" or status == 304 else int(headers.get("content-length", "0"))
        body, cut = b"", False
        try:
            body = await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            body, cut = error.partial, True
        except ConnectionError:
            cut = True
        if cut or headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body, cut)


async def get_once(signer: Signer, path: str, **options: int | str | float | None) -> Answer:
    """One request on a connection of its own."""
    async with RawClient(signer) as client:
        return await client.get(path, **options)  # type: ignore[arg-type]


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def kinds_of_files(pid: int) -> Counter[str]:
    """What a process has open, by kind: `socket`, `anon_inode`, the suffix of a file's name, …"""
    kinds: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            name = str(descriptor.readlink())
            kind = name.partition(":")[0]
            if name.startswith("/"):
                kind = re.sub(r"[0-9a-f]*$", "", Path(name.removesuffix(" (deleted)")).suffix)
            kinds[kind + (" deleted" if name.endswith("(deleted)") else "")] += 1
    return kinds


def resident_bytes(pid: int) -> int:
    """Memory of the process alone: without files and shared memory, which several processes share."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


async def until(check: object, what: str, *, deadline_s: float = 10.0) -> None:
    """Poll until `check()` holds. Fails with `what`."""
    assert callable(check)
    end = time.monotonic() + deadline_s
    while not check():
        assert time.monotonic() < end, f"waited {deadline_s:.0f} s in vain: {what}"
        await asyncio.sleep(0.02)
