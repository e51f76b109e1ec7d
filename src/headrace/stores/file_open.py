"""From a mount to its directory store."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores.file import FileStore
from headrace.stores.file_account import FileAccountStore
from headrace.stores.store import Store
from headrace.stores.urls import shown_url


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:  # noqa: ARG001 - every kind of store has it
    """The store of a `file:///…` URL; at `/` with `create_buckets`, its directories are buckets. Raises `SettingsError`."""
    scheme, separator, rest = spec.store.partition("://")
    root = unquote(rest.removeprefix("localhost"))
    if scheme != "file" or not separator or not root.startswith("/") or set(rest) & set("?#") or "\0" in root:
        raise SettingsError(
            f"store {shown_url(spec.store)!r}: write file:// and an absolute path, such as file:///srv/data (? as %3F, # as %23)"
        )
    if spec.path == "/" and spec.create_buckets:
        return FileAccountStore(root)
    return FileStore(root)
