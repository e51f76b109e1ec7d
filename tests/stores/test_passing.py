"""A body that is at hand passes the wrappers whole, and each still does what it is there for."""

from __future__ import annotations

import pytest

from headrace.model.clock import SystemClock
from headrace.model.events import StoreCall
from headrace.model.writing import BytesBody
from headrace.stores.contract_tools import PiecesBody
from headrace.stores.limit import LimitStore
from headrace.stores.retry import RetryStore
from headrace.stores.store import Store
from headrace.stores.trace import TraceStore
from support.taking import TakingStore


async def stored(store: Store, key: str) -> bytes:
    return b"".join([bytes(piece) async for piece in await store.read(key)])


async def test_it_is_counted_by_the_trace() -> None:
    events: list[object] = []
    inner = TakingStore()
    await TraceStore(inner, "/m", events.append, SystemClock()).write("k", BytesBody(b"data"))
    assert inner.taken == [b"data"]
    assert [(event.verb, event.bytes) for event in events if isinstance(event, StoreCall)] == [("write", 4)]


@pytest.mark.parametrize(("rate", "taken"), [(None, b"data"), (1 << 30, None)])
async def test_it_is_iterated_where_its_bytes_are_paced(rate: int | None, taken: bytes | None) -> None:
    inner = TakingStore()
    await LimitStore(inner, SystemClock(), max_concurrent=1, bytes_per_s=rate).write("k", BytesBody(b"data"))
    assert inner.taken == [taken]
    assert await stored(inner, "k") == b"data"


async def test_it_is_sent_again_and_one_that_is_gone_is_not() -> None:
    async def no_wait(_: float) -> None:
        return

    inner = TakingStore(failures=2)
    await RetryStore(inner, SystemClock(), sleep=no_wait).write("k", BytesBody(b"data"))
    assert inner.taken == [b"data"] * 3
    assert await stored(inner, "k") == b"data"


async def test_a_body_in_pieces_is_not_at_hand() -> None:
    inner = TakingStore()
    await TraceStore(inner, "/m", lambda _: None, SystemClock()).write("k", PiecesBody([b"da", b"ta"]))
    assert inner.taken == [None]
    assert await stored(inner, "k") == b"data"
