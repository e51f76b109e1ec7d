"""Filesystems that write: over a store in memory, inside the process, and through a node."""

from __future__ import annotations

from pathlib import Path

from headrace.fs import HeadraceFileSystem
from headrace.model.mounts import MountSpec, WriteMode
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.session import SessionOptions
from headrace.stores.store import Store
from support.node import RunningNode


def writable_namespace(**stores: Store) -> Namespace:
    """A namespace with each store mounted for writing at `/<its name>`; `root` at `/`, where buckets may be made."""
    mounts = []
    for name, store in stores.items():
        path = "/" if name == "root" else f"/{name}"
        mounts.append(Mount(path, MountSpec(path, write=WriteMode.THROUGH, create_buckets=name == "root"), store))
    return Namespace(MountTable(mounts))


def memory_fs(store: Store) -> HeadraceFileSystem:
    """`store` at `/b`."""

    async def opener(_: SessionOptions) -> Namespace:
        return writable_namespace(b=store)

    return HeadraceFileSystem(opener=opener, skip_instance_cache=True)


def config_of(store: Path, write: str = "through") -> str:
    """A directory mounted at `/b`."""
    store.mkdir(exist_ok=True)
    return f'[[mount]]\npath = "/b"\nstore = "file://{store}"\nfreshness = "1h"\nwrite = "{write}"\n'


def embedded_config(root: Path, write: str = "through") -> Path:
    """Settings of a home below `root` with `root/store` at `/b`."""
    path = root / "headrace.toml"
    path.write_text(
        f'[server]\nhome = "{root}/home"\ndata_listen = "127.0.0.1:1"\n\n'
        f'[cache]\nmemory = "0"\ndisk = [{{ path = "pages", capacity = "64MiB" }}]\n\n{config_of(root / "store", write)}'
    )
    return path


def embedded_fs(root: Path, write: str = "through") -> HeadraceFileSystem:
    """A filesystem without a node. Close its session."""
    return HeadraceFileSystem(str(embedded_config(root, write)), mode="embedded", skip_instance_cache=True)


def remote_fs(node: RunningNode) -> HeadraceFileSystem:
    """A filesystem through a running node's data port. Close its session."""
    return HeadraceFileSystem(
        str(node.config), endpoint=node.data_url, key_id=node.key_id, secret=node.secret, mode="remote", skip_instance_cache=True
    )
