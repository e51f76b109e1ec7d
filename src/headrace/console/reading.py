"""The client that data commands read with: as any Python program's, told where this home's node answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from headrace.console.client import find_server
from headrace.console.options import Invocation
from headrace.model.errors import HeadraceError, NotFound, Unavailable

if TYPE_CHECKING:
    from headrace.client import Client

_ASK_THE_NODE = "cannot be asked now"


def namespace_path(path: str) -> str:
    """As `headrace.client.namespace_path`, without waiting for the client's imports."""
    return "/" + path.removeprefix("headrace://").removeprefix("/")


def open_client(invocation: Invocation) -> Client:
    """The namespace that this invocation means. Raises `SettingsError`."""
    from headrace.client import Client  # noqa: PLC0415 - the help needs no client
    from headrace.node.home import read_addresses  # noqa: PLC0415

    settings = invocation.settings()
    endpoint = None
    if settings.server.data_listen.endswith(":0") and not os.environ.get("HEADRACE_ENDPOINT"):
        # The kernel chose the port, so only the node's own word tells it.
        addresses = read_addresses(settings.home)
        endpoint = addresses.data if addresses is not None else None
    return Client.connect(invocation.config, endpoint=endpoint)


@contextmanager
def naming(invocation: Invocation, client: Client, path: str) -> Iterator[None]:
    """What goes wrong with `path` is said as the user wrote it, with the cause where the node knows it."""
    try:
        yield
    except NotFound as error:
        raise _why_not_there(client, path, error) from error
    except Unavailable as error:
        cause = _cause(invocation, path) if _ASK_THE_NODE in str(error) else ""
        if not cause:
            raise
        raise Unavailable(str(error).replace(_ASK_THE_NODE, f"{_ASK_THE_NODE} ({cause})"), path=path) from error


def is_directory(client: Client, path: str) -> bool:
    """Whether something lies below `path`, or a mount is there. Raises `NotFound` where nothing is mounted."""
    plain = path.strip("/")
    if not plain or any(entry.key.startswith(f"/{plain}/") for entry in islice(client.ls(f"/{plain}/"), 1)):
        return True
    # An empty mount has nothing below it; it is listed at the root all the same.
    return "/" not in plain and any(entry.key == f"/{plain}/" for entry in client.ls("/"))


def _why_not_there(client: Client, path: str, error: NotFound) -> NotFound:
    try:
        if is_directory(client, namespace_path(path)):
            return NotFound(f"{path} is a directory: name an object, or copy all below it with `headrace cp -r`", path=path)
    except NotFound as known:
        error = known
    if str(error).startswith("nothing is mounted"):
        return error
    return NotFound(f"there is no {path}: `headrace ls` shows what there is", path=path)


def _cause(invocation: Invocation, path: str) -> str:
    """What the node heard from the store behind `path`, when a node runs here."""
    whole = namespace_path(path)
    with suppress(HeadraceError):
        settings = invocation.settings()
        server = find_server(settings.home, settings.server.control_listen)
        for mount in sorted(server.stats().mounts if server is not None else (), key=lambda row: -len(row.path)):
            if mount.path in ("/", whole) or whole.startswith(mount.path + "/"):
                return mount.error
    return ""
