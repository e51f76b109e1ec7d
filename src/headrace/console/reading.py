"""The client that data commands read with: as any Python program's, told where this home's node answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.console.options import Invocation
from headrace.model.errors import NotFound

if TYPE_CHECKING:
    from headrace.client import Client


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
def naming(path: str) -> Iterator[None]:
    """An object that is not there is named as the user wrote it, not as its store did."""
    try:
        yield
    except NotFound as error:
        raise NotFound(f"there is no object at {path}: `headrace ls` shows what there is", path=path) from error
