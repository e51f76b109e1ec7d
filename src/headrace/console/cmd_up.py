"""`headrace up`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from headrace.console.client import AdminClient
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, say

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from headrace.control.node_view import NodeView
    from headrace.control.plane import ControlPlane


_MAX_SHOWN = 10


class Ready(msgspec.Struct, frozen=True):
    """What is said when the node serves."""

    data_url: str
    control_url: str
    login_link: str
    """Whoever has it is an administrator: it goes to the ready descriptor and to a terminal, never into a log file."""
    credentials: str
    mounts: tuple[str, ...] = ()
    """Paths, sorted."""


@click.command()
@click.option("--once-ready-fd", type=click.IntRange(0), metavar="FD", help="Write a line of JSON there when serving.")
@config_option
@json_option
@pass_invocation
def up(invocation: Invocation, once_ready_fd: int | None) -> None:
    """Run everything here: data port, control port, page keeper."""
    from headrace.node.supervisor import run  # noqa: PLC0415 - the help needs no node

    settings = invocation.settings()

    def mount_paths() -> tuple[str, ...]:
        from headrace.console.local import open_plane  # noqa: PLC0415 - heavy to import: the workers start meanwhile

        with open_plane(settings) as plane:
            return tuple(entry.spec.path for entry in plane.mounts())

    def announce(data_url: str, control_url: str, token: str) -> None:
        link = AdminClient(control_url, token).login_link
        ready = Ready(data_url, control_url, link, str(settings.home / "credentials"), mount_paths())
        _show(ready if sys.stdout.isatty() else msgspec.structs.replace(ready, login_link=""), invocation.as_json)
        if once_ready_fd is not None:
            with os.fdopen(once_ready_fd, "wb") as file:
                file.write(msgspec.json.encode(ready) + b"\n")

    run(settings, build_app=_build_app, announce=announce)


def _build_app(control: ControlPlane, node: NodeView) -> Starlette:
    # Heavy to import: the workers start meanwhile.
    from headrace.console.app import build_app  # noqa: PLC0415

    return build_app(control, node)


def _show(ready: Ready, as_json: bool) -> None:
    if as_json:
        print_json(ready)
    else:
        page = ready.login_link or f"{ready.control_url}/   (`headrace status` prints the login link)"
        say(f"Headrace serves S3 at      {ready.data_url}   (keys: {ready.credentials})")
        say(f"The status page is at      {page}")
        if ready.mounts:
            more = f" and {len(ready.mounts) - _MAX_SHOWN} more" if len(ready.mounts) > _MAX_SHOWN else ""
            say(f"Mounted (`mount ls`):      {', '.join(ready.mounts[:_MAX_SHOWN])}{more}")
        else:
            say("Mount something:           headrace mount add /name s3://bucket --endpoint URL --credentials env:NAME")
    sys.stdout.flush()
