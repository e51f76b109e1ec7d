"""SqlStore: tables and named queries of a database as Parquet objects, read-only.

An object is made when it is asked for: its rows, read in one snapshot, become a Parquet file in a bounded spool, and the
version is the digest of its bytes. So equal versions have equal bytes, whatever the database does. It is made anew only
when the database cannot prove that it is unchanged.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import AccessDenied, NotFound, Unavailable, VersionChanged
from headrace.model.objects import ByteRange, Entry, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.merging import page_of
from headrace.stores.sql_parquet import Made, make_parquet
from headrace.stores.sql_source import Batch, Relation, SqlSource, named_queries
from headrace.stores.store import Store

T = TypeVar("T")
_PIECE_BYTES = 1 << 20
_INTERRUPT_S = 0.2
_CONTENT_TYPE = "application/vnd.apache.parquet"


class Spool(msgspec.Struct, frozen=True):
    """Where made objects are held: at most `limit_bytes` (and once more while another is made), on disk or in memory."""

    limit_bytes: int
    on_disk: bool


class _Known(msgspec.Struct, frozen=True):
    """What was last made of a relation, and under which mark; `made` is gone when others needed the room."""

    info: ObjectInfo
    mark: str
    made: Made | None


class SqlStore(Store):
    """The tables of `source` below `tables/`, and the queries in files of the directory `queries` below `queries/`.

    One look at the database at a time. Looks that are given up go on, so that who asks again finds what was made.
    """

    def __init__(self, source: SqlSource, spool: Spool, clock: Clock, *, queries: str = "") -> None:
        self._source = source
        self._spool = spool
        self._clock = clock
        self._queries = queries
        self._thread = ThreadPoolExecutor(1, "headrace-sql")
        self._turn = asyncio.Lock()
        self._waiting: dict[str, asyncio.Task[_Known]] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._is_closed = False

    async def info(self, key: str) -> ObjectInfo:
        check_key(key)
        return (await self._look(key)).info

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        check_key(key)
        known = self._known.get(key)
        if known is None or known.made is None or known.info.version != version:
            known = await self._look(key)
        if version is not None and known.info.version != version:
            raise VersionChanged(f"{key!r} is now {known.info.version.token}, not {version.token}", path=key)
        held = cut_range(byte_range, known.info.size, key)
        return _SqlReading(known.info, held, known.made)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        async with self._turn:
            relations = await self._in_thread(self._relations)
        placed = [ObjectInfo(relation.key, 0, Version("")) for relation in relations if relation.is_readable]
        page = page_of(placed, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        entries: list[Entry] = []
        for entry in page.entries:
            if not isinstance(entry, ObjectInfo):
                entries.append(entry)
                continue
            try:
                entries.append(await self.info(entry.key))
            except NotFound:
                continue  # dropped since
        return Listing(tuple(entries), page.after)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        turn = asyncio.ensure_future(self._turn.acquire())
        while not (await asyncio.wait({turn}, timeout=_INTERRUPT_S))[0]:
            await asyncio.to_thread(self._source.interrupt)
        await self._in_thread(self._source.close)
        self._turn.release()
        self._thread.shutdown(wait=False)
        self._known.clear()

    async def _look(self, key: str) -> _Known:
        """The relation as it is now, with its bytes: a look that had begun before this call would not do."""
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.ensure_future(self._next_look(key))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _next_look(self, key: str) -> _Known:
        async with self._turn:
            del self._waiting[key]
            try:
                known = await self._in_thread(lambda: self._made_now(key, self._known.get(key)))
            except NotFound:
                self._known.pop(key, None)
                raise
            self._keep(key, known)
            return known

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _relations(self) -> Sequence[Relation]:
        return [*self._source.relations(), *named_queries(self._queries)]

    def _made_now(self, key: str, known: _Known | None) -> _Known:
        self._check_open()
        relation = next((one for one in self._relations() if one.key == key), None)
        if relation is None:
            raise NotFound(f"there is no {key!r}: no such table or query", path=key)
        if not relation.is_readable:
            raise AccessDenied(f"{key!r}: the login may not read it: grant it SELECT", path=key)
        is_provable = known is not None and known.made is not None and relation.is_steady and known.mark != ""
        if known is not None and is_provable and known.mark == self._source.mark():
            return known
        with self._source.read(relation) as rows:
            made = make_parquet(
                key,
                rows._replace(batches=self._until_closed(rows.batches)),
                limit_bytes=self._spool.limit_bytes,
                on_disk=self._spool.on_disk,
            )
        if known is not None and known.info.version.token == f"etag:{made.token}":
            return _Known(known.info, rows.mark, known.made or made)
        info = ObjectInfo(
            key=key,
            size=made.size,
            version=Version(f"etag:{made.token}"),
            modified_s=self._clock.time(),
            etag=made.token,
            content_type=_CONTENT_TYPE,
        )
        return _Known(info, rows.mark, made)

    def _until_closed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._check_open()
            yield batch

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("the mount was taken away while its database was read")

    def _keep(self, key: str, known: _Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        held = sum(one.made.size for one in self._known.values() if one.made is not None)
        for other, one in list(self._known.items()):
            if held <= self._spool.limit_bytes:
                return
            if one.made is not None and other != key:
                held -= one.made.size
                self._known[other] = msgspec.structs.replace(one, made=None)


class _SqlReading(Reading):
    """Bytes of a made object, which stay at hand while they are read."""

    __slots__ = ("_made",)

    def __init__(self, info: ObjectInfo, byte_range: ByteRange, made: Made | None) -> None:
        super().__init__(info, byte_range)
        self._made = made

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        position = self.range.start
        while self._made is not None and position < self.range.end:
            piece = await asyncio.to_thread(self._made.piece, position, min(_PIECE_BYTES, self.range.end - position))
            position += len(piece)
            yield piece

    async def aclose(self) -> None:
        self._made = None


def _retrieve(task: asyncio.Task[_Known]) -> None:
    """An error that nobody waits for any more is nobody's."""
    if not task.cancelled():
        task.exception()
