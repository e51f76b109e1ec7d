"""`headrace sync` and `headrace conflicts`: writes on their way to their stores, and what changed there."""

from __future__ import annotations

import sys
import time

import click
import msgspec

from headrace.console.client import AdminClient, need_server
from headrace.console.finding import find, in_words
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, say, show_seconds, show_time, warn
from headrace.control.node_view import StagedConflict, StagedWrites
from headrace.model.errors import NotFound
from headrace.model.units import format_size, parse_duration

_POLL_S = 0.2


def _server(invocation: Invocation) -> AdminClient:
    settings = invocation.settings()
    return need_server(settings.home, settings.server.control_listen)


@click.command()
@click.argument("path", required=False)
@click.option(
    "--wait", is_flag=True, help="Return when the store has everything that was written at or below PATH; look for nothing."
)
@click.option("--timeout", metavar="DURATION", help="Give up waiting after this long, such as 10m.")
@config_option
@json_option
@pass_invocation
def sync(invocation: Invocation, path: str | None, wait: bool, timeout: str | None) -> int:
    """Find what changed at the stores, or wait until they have what was written.

    All at and below PATH is listed at its stores now: from then on every process shows it as it is there, and what was added,
    changed and deleted since PATH was last looked through is counted. Ctrl-C ends it; it is begun anew the next time.

    Mounts with write = "back" acknowledge writes before their store has them. What is on its way is shown first (without PATH:
    only that, of all mounts), and --wait waits for it.
    """
    server = _server(invocation)
    looks, path = path is not None and not wait, path or "/"
    until_s = time.monotonic() + parse_duration(timeout) if timeout else float("inf")
    staged = server.staged(path)
    while wait and staged.writes and time.monotonic() < until_s:
        _progress(staged)
        time.sleep(_POLL_S)
        staged = server.staged(path)
    _progress(None)
    if not invocation.as_json:
        say(f"{path}: {_words(staged)}")
    try:
        found = find(server, path) if looks else None
    except KeyboardInterrupt:
        warn(f"{path}: not all of it was looked through: repeat it")
        return 1
    if invocation.as_json:
        print_json({**msgspec.structs.asdict(staged), **({"found": found} if found is not None else {})})
    elif found is not None:
        say(f"{path}: {in_words(found)}")
    if found is not None and found.note:
        warn(found.note)
    if staged.conflicts:
        warn(f"{len(staged.conflicts)} writes met another's at the store: see `headrace conflicts`")
    return 1 if wait and staged.writes else 0


def _progress(staged: StagedWrites | None) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K" + (_words(staged) if staged is not None else ""), err=True, nl=False)


def _words(staged: StagedWrites) -> str:
    if not staged.writes:
        return "the store has everything"
    age = f", the oldest for {show_seconds(time.time() - staged.oldest_s)}" if staged.oldest_s is not None else ""
    why = f"; {staged.error}" if staged.error else ""
    return f"{staged.writes} writes, {format_size(staged.bytes)}, wait for the store{age}{why}"


@click.command()
@click.argument("path", default="/")
@click.option("--keep", type=click.Choice(["ours", "theirs"]), help="Settle the conflicts of the object PATH.")
@config_option
@json_option
@pass_invocation
def conflicts(invocation: Invocation, path: str, keep: str | None) -> int:
    """Show and settle writes that met another's at the store.

    The store's object stays in its place and ours lies beside it: `--keep ours` puts it there, `--keep theirs` removes it.
    """
    server = _server(invocation)
    found = server.staged(path).conflicts
    if keep is not None:
        return _settle(server, invocation, path, [one for one in found if one.path == path], ours=keep == "ours")
    if invocation.as_json:
        print_json(found)
    else:
        print_table(
            ("PATH", "OURS IS KEPT AS", "NOTICED"), [(c.path, c.kept_as or "(a removal)", show_time(c.noticed_s)) for c in found]
        )
    return 0


def _settle(server: AdminClient, invocation: Invocation, path: str, found: list[StagedConflict], *, ours: bool) -> int:
    if not found:
        raise NotFound(f"{path} is in no conflict: see `headrace conflicts`", path=path)
    # Of several writes of ours the last one is ours.
    for conflict in found[:-1]:
        server.settle(conflict, ours=False)
    server.settle(found[-1], ours=ours)
    if invocation.as_json:
        print_json({"path": path, "settled": len(found), "kept": "ours" if ours else "theirs"})
    else:
        say(f"{path}: {'ours' if ours else 'theirs'} is kept")
    return 0
