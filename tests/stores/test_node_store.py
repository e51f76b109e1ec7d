"""What a node refuses is said in paths and mounts, never in buckets and statuses."""

from __future__ import annotations

import pytest

from headrace.model.errors import (
    AccessDenied,
    HeadraceError,
    InvalidRange,
    NotFound,
    ReadOnly,
    Throttled,
    Unavailable,
    VersionChanged,
)
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.stores.contract import StoreContract
from headrace.stores.contract_writing import WritingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.node import NodeStore
from headrace.stores.store import Store


class TestNodeStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return NodeStore(self.memory, "http://127.0.0.1:1")

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


class _Refusing(MemoryStore):
    """Raises what it is given: one error for a head, one for a body, one for a listing of a prefix."""

    def __init__(self, head: HeadraceError, body: HeadraceError | None = None) -> None:
        super().__init__()
        self._head = head
        self._body = body or head

    async def info(self, key: str) -> ObjectInfo:
        raise self._head

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        raise self._body

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        if prefix:
            raise self._head
        return await super().list(prefix, delimiter=delimiter, after=after, limit=limit)


async def words(head: HeadraceError, body: HeadraceError | None = None) -> HeadraceError:
    with pytest.raises(HeadraceError) as raised:
        await NodeStore(_Refusing(head, body), "http://127.0.0.1:9400").info("sales/x")
    assert "s3 " not in str(raised.value)
    assert raised.value.path == "/sales/x"
    return raised.value


async def test_a_missing_object_is_named_by_its_path() -> None:
    error = await words(NotFound("s3 'sales/x' at h: status 404"))
    assert isinstance(error, NotFound)
    assert str(error).startswith("there is no /sales/x")


async def test_a_refusal_says_whose_it_is() -> None:
    silent = AccessDenied("s3 'sales/x' at h: status 403; check the mount's credentials and their rights")
    by_rule = AccessDenied("s3 'sales/x' at h: AccessDenied: Access Denied; check …")
    assert str(await words(silent, by_rule)) == "your key may not read /sales/x: a rule of the node refuses it"
    wrong_key = AccessDenied("s3 'sales/x' at h: SignatureDoesNotMatch: …; check …")
    assert "does not accept your key (SignatureDoesNotMatch)" in str(await words(silent, wrong_key))
    by_store = AccessDenied("s3 'sales/x': AccessDenied: Access Denied: the store behind this path refused its own credentials.")
    assert "the store behind /sales refused the mount's credentials" in str(await words(silent, by_store))


async def test_a_refused_write_says_what_to_set() -> None:
    told = "s3 'sales/x' at h: AccessDenied: Access Denied: nothing can be written at this path (its mount says …); check …"
    error = await words(AccessDenied(told))
    assert isinstance(error, ReadOnly)
    assert str(error) == '/sales/x takes no writes: set write = "through" on the mount that it lies in'


async def test_a_store_that_is_away_is_told_from_a_node_that_is() -> None:
    away = await words(Unavailable("s3 'sales/x' at h: status 503", retry_after_s=2.0))
    assert isinstance(away, Unavailable)
    assert (str(away), away.retry_after_s) == ("the store behind /sales cannot be asked now: see `headrace status`", 2.0)
    assert isinstance(await words(Throttled("s3 'sales/x' at h: SlowDown")), Throttled)
    gone = await words(Unavailable("http://127.0.0.1:9400/sales/x: connection refused: is the store running there?"))
    assert "no node answers at 127.0.0.1:9400" in str(gone)


async def test_other_errors_keep_their_kind_and_size() -> None:
    outside = await words(InvalidRange("s3 'sales/x' at h: InvalidRange", size=7))
    assert isinstance(outside, InvalidRange)
    assert outside.size == 7
    assert isinstance(await words(VersionChanged("s3 'sales/x' at h: status 412")), VersionChanged)


async def test_an_unknown_mount_is_answered_with_those_there_are() -> None:
    refusing = _Refusing(NotFound("s3 bucket 'nope' does not exist at h"))
    store = NodeStore(refusing, "http://127.0.0.1:9400")
    with pytest.raises(NotFound, match="nothing is mounted yet: `headrace mount add"):
        await store.list("nope/")
    refusing.put("sales/x", b"")
    refusing.put("logs/y", b"")
    with pytest.raises(NotFound, match=r"nothing is mounted at /nope; mounts: /logs, /sales$"):
        await store.list("nope/")
