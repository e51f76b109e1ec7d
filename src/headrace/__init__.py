"""Headrace: one namespace and a page cache between your stores and your compute."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.client import Client as Client


def __getattr__(name: str) -> Any:
    if name != "Client":
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    from headrace.client import Client  # noqa: PLC0415 (commands start faster without it)

    return Client
