"""`headrace fuse`: the namespace as a directory of this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, say, warn

if TYPE_CHECKING:
    from headrace.gateways.fuse.device import MountOptions
    from headrace.gateways.fuse.shared import FuseOptions


class Mounted(msgspec.Struct, frozen=True):
    """What is said when the directory is there."""

    mountpoint: str
    path: str
    """The directory of the namespace that is shown."""


class Owner(click.ParamType[tuple[int, int]]):
    """`UID` or `UID:GID`."""

    name = "uid[:gid]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        uid, _, gid = str(value).partition(":")
        if not uid.isdigit() or not (gid or uid).isdigit():
            self.fail(f"{value!r} is not UID or UID:GID, two numbers such as 1000:1000", param, ctx)
        return int(uid), int(gid or uid)


class Octal(click.ParamType[int]):
    """Permissions as `chmod` writes them."""

    name = "octal"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            mask = int(str(value), 8)
        except ValueError:
            mask = -1
        if not 0 <= mask <= 0o777:
            self.fail(f"{value!r} is no octal number up to 777", param, ctx)
        return mask


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--path", default="/", metavar="PATH", help="The directory of the namespace to show; / shows all.")
@click.option("--endpoint", metavar="URL", help="Read through a node's data port, not by this process itself.")
@click.option("--read-only", is_flag=True, help="Take no writes.")
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as permissions let them.")
@click.option("--owner", type=Owner(), help="Who owns what does not say it; else you.")
@click.option("--umask", type=Octal(), default="022", show_default=True, help="Permissions that such files do not give.")
@config_option
@json_option
@pass_invocation
def fuse(
    invocation: Invocation,
    mountpoint: Path,
    path: str,
    endpoint: str | None,
    read_only: bool,
    allow_other: bool,
    owner: tuple[int, int] | None,
    umask: int,
) -> int:
    """Show the namespace as a directory of this machine.

    Runs in the foreground until it is unmounted (`umount MOUNTPOINT`) or stopped (Ctrl-C). Files that are written are stored
    when they are closed or synced.
    """
    from headrace.gateways.fuse.device import MountOptions  # noqa: PLC0415 - the help needs none of it
    from headrace.gateways.fuse.modes import Defaults  # noqa: PLC0415
    from headrace.gateways.fuse.shared import FuseOptions  # noqa: PLC0415

    uid, gid = owner or (os.getuid(), os.getgid())
    options = FuseOptions(path, Defaults(uid, gid, 0o666 & ~umask, 0o777 & ~umask))
    not_stored = _run(
        _serve(invocation, mountpoint, endpoint, MountOptions(allow_other=allow_other, read_only=read_only), options)
    )
    if not_stored:
        warn(f"{not_stored} files that were written could not be stored: the log lines above name them")
    return 1 if not_stored else 0


async def _serve(invocation: Invocation, mountpoint: Path, endpoint: str | None, how: MountOptions, options: FuseOptions) -> int:
    from headrace.embedded import OwnNamespace  # noqa: PLC0415
    from headrace.gateways.fuse.handing import PeekedWholes  # noqa: PLC0415
    from headrace.gateways.fuse.mounted import serve  # noqa: PLC0415
    from headrace.gateways.fuse.staged import StagingArea  # noqa: PLC0415
    from headrace.session import SessionOptions, open_by_settings  # noqa: PLC0415

    settings = invocation.settings()
    area = StagingArea(settings.home / "fuse", settings.fuse.staged_bytes)

    def ready() -> None:
        if invocation.as_json:
            print_json(Mounted(str(mountpoint), options.path))
        else:
            say(f"Headrace shows {options.path} at {mountpoint}   (umount {mountpoint}, or Ctrl-C, ends it)")
        sys.stdout.flush()

    session = SessionOptions(config=invocation.config, endpoint=endpoint, mode="remote" if endpoint else "embedded")
    namespace = await open_by_settings(session)
    wholes = namespace.wholes if isinstance(namespace, OwnNamespace) else PeekedWholes(namespace)
    following = asyncio.ensure_future(namespace.follow(settings)) if isinstance(namespace, OwnNamespace) else None
    try:
        return await serve(namespace, mountpoint, wholes=wholes, area=area, how=how, options=options, ready=ready)
    finally:
        if following is not None:
            following.cancel()
        if isinstance(namespace, OwnNamespace):
            await namespace.close()


def _run(serving: Coroutine[Any, Any, int]) -> int:
    runner: Callable[[Coroutine[Any, Any, int]], int] = asyncio.run
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional speed

        runner = uvloop.run
    return runner(serving)
