"""`headrace leftovers`."""

from __future__ import annotations

import click

from headrace.console.client import find_server
from headrace.console.local import open_plane
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, say
from headrace.model.mounts import MountSpec
from headrace.settings import Settings


@click.command()
@click.option("--drop", metavar="NAME", help="Remove one for good: writes in it never reach their store.")
@config_option
@json_option
@pass_invocation
def leftovers(invocation: Invocation, drop: str | None) -> None:
    """Show what mounts that are gone have left here.

    Acknowledged writes that their store does not have yet, and scratch. Mount such a one again as it was, and it goes on.
    """
    from headrace.node import leftovers as node  # noqa: PLC0415 - the help needs no stores
    from headrace.wiring import Journals, Scratch  # noqa: PLC0415

    settings = invocation.settings()
    journals = Journals(settings.staging.root(settings.home), settings.staging)
    scratch = Scratch(settings.scratch.root(settings.home), settings.scratch)
    specs = mounts_of(settings)
    if drop is not None:
        gone = node.drop(journals, scratch, specs, drop)
        print_json(gone) if invocation.as_json else say(f"removed: {gone.kind} of {gone.mount}")
        return
    found = node.find_leftovers(journals, scratch, specs)
    if invocation.as_json:
        print_json(found)
    else:
        for left in found:
            say(f"{left.name}: {left.words()}")
        if not found:
            say("nothing is left of mounts that are gone")


def mounts_of(settings: Settings) -> tuple[MountSpec, ...]:
    """All mounts of the node, whether it runs or not."""
    server = find_server(settings.home, settings.server.control_listen)
    if server is not None:
        return tuple(view.spec for view in server.mounts())
    with open_plane(settings) as plane:
        return tuple(entry.spec for entry in plane.mounts())
