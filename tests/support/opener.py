"""An opener and work that child processes can import by name."""

from __future__ import annotations

from headrace.fs import HeadraceFileSystem
from headrace.namespace.namespace import Namespace
from headrace.session import SessionOptions
from headrace.stores.memory import MemoryStore
from support.sliced import namespace_of

BODY = bytes(range(256)) * 2000


async def open_small(_: SessionOptions) -> Namespace:
    """A namespace with `/b/k` (`BODY`) and `/b/t.csv`."""
    store = MemoryStore()
    store.put("k", BODY)
    store.put("t.csv", b"a,b\n1,2\n3,4\n")
    return namespace_of(b=store)


def read_length(fs: HeadraceFileSystem) -> int:
    return len(fs.cat_file("b/k"))
