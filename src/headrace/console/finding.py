"""What changed at the stores: asked of the node, shown while it lasts, and told in words."""

from __future__ import annotations

import sys
import time

import click

from headrace.console.client import AdminClient
from headrace.control.node_view import Found

_SHOW_EVERY_S = 0.2


def find(server: AdminClient, path: str) -> Found:
    """Look through the stores at or below `path`. On a terminal it is shown how far that is. Raises `KeyboardInterrupt`."""
    shown_s = 0.0

    def show(found: Found) -> None:
        nonlocal shown_s
        if sys.stderr.isatty() and time.monotonic() - shown_s >= _SHOW_EVERY_S:
            shown_s = time.monotonic()
            click.echo(f"\r\x1b[K{path}: {in_words(found)}", err=True, nl=False)

    try:
        return server.survey(path, show)
    finally:
        if shown_s:
            click.echo("\r\x1b[K", err=True, nl=False)


def in_words(found: Found) -> str:
    """One line."""
    counts = f"{found.objects:,} objects: {found.added:,} added, {found.changed:,} changed, {found.deleted:,} deleted"
    ours = f"; {found.ours:,} more by this node's own writes" if found.ours else ""
    new = f"; {found.new:,} listed for the first time, compared with nothing" if found.new else ""
    return counts + ours + new
