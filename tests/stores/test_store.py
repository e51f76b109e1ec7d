"""The Store contract stays narrow, and who wraps a store asks it for files when it is asked for files."""

from __future__ import annotations

import pytest

from headrace.model.clock import SystemClock
from headrace.model.objects import ByteRange
from headrace.model.reading import Reading
from headrace.namespace.union import UnionStore
from headrace.stores.limit import LimitStore
from headrace.stores.memory import MemoryStore
from headrace.stores.node import NodeStore
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.retry import RetryStore
from headrace.stores.store import Store
from headrace.stores.trace import TraceStore


class AskedStore(MemoryStore):
    """Remembers what it was peeked for."""

    def __init__(self) -> None:
        super().__init__()
        self.peeks: list[tuple[str, ByteRange | None, bool]] = []

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        self.peeks.append((key, byte_range, files))
        return None


def test_the_contract_has_twelve_verbs_and_an_end() -> None:
    public = {name for name, value in vars(Store).items() if callable(value) and not name.startswith("_")}
    assert public == {
        *("info", "read", "list", "tags", "part", "write", "copy", "delete", "set_tags"),
        *("peek", "multipart", "buckets"),
        "close",
    }


WRAPPERS = ("trace", "limit", "retry", "prefixed", "node", "union")


def wrapped(kind: str, inner: Store) -> Store:
    clock = SystemClock()
    stores: dict[str, Store] = {
        "trace": TraceStore(inner, "/m", lambda _event: None, clock),
        "limit": LimitStore(inner, clock, max_concurrent=1),
        "retry": RetryStore(inner, clock),
        "prefixed": PrefixedStore(inner, "p/"),
        "node": NodeStore(inner, "http://127.0.0.1:1"),
        "union": UnionStore((inner,)),
    }
    return stores[kind]


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_hands_on_whether_files_are_wanted(kind: str, files: bool) -> None:
    inner = AskedStore()
    assert wrapped(kind, inner).peek("k", ByteRange(1, 3), files=files) is None
    assert inner.peeks == [("p/k" if kind == "prefixed" else "k", ByteRange(1, 3), files)]
