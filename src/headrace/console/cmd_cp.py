"""`headrace cp`: objects out of the namespace into local files, files into it, and objects to other paths of it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.console.copy_ends import Ends, ends_of, files_below
from headrace.console.copying import Copied, Report, copy_object, target_for
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.parallel import run_all
from headrace.console.printer import print_json, say, warn
from headrace.console.reading import is_directory, naming, open_client
from headrace.model.errors import HeadraceError, NotFound
from headrace.model.objects import ObjectInfo
from headrace.model.units import format_size

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.console.sending import Sender

Job = tuple[str, Callable[[], Copied]]
"""What is copied, for messages, and the copying."""


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("-r", "--recursive", is_flag=True, help="Everything below SOURCE, into the directory TARGET.")
@click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Objects at a time.")
@config_option
@json_option
@pass_invocation
def cp(invocation: Invocation, source: str, target: str, recursive: bool, parallel: int) -> int:
    """Copy objects out of the namespace, files into it, or objects within it.

    headrace://BUCKET/KEY is a path of the namespace. So is SOURCE when TARGET is a local file, and TARGET when SOURCE begins with
    ./ or ../; otherwise paths are local.

    Run it again after a break: what is there already with the same bytes is left alone, unfinished copies go on.
    """
    ends = ends_of(source, target)
    tally = Tally(invocation.as_json)
    with open_client(invocation) as client, naming(invocation, client, ends.path), _progress() as report:
        jobs = _jobs(invocation, client, ends, tally, report=report, recursive=recursive)
        if recursive:
            run_all(jobs, tally.done, tally.fail, parallel=parallel)
        else:
            for _, copy in jobs:
                tally.done(copy())
    tally.close()
    nothing = not (tally.copied or tally.skipped)
    if recursive and nothing and not tally.failed:
        warn(f"headrace: nothing lies below {ends.source}: without -r, cp copies one object")
    return 1 if tally.failed or (recursive and nothing) else 0


def _jobs(invocation: Invocation, client: Client, ends: Ends, tally: Tally, *, report: Report, recursive: bool) -> Iterator[Job]:
    if not ends.into:
        return _outward(client, ends, tally, report, recursive=recursive)
    from headrace.console.sending import Leftovers, Sender  # noqa: PLC0415 - copying out needs none of it

    sender = Sender(client, Leftovers(invocation.settings().home / "copies"), report)
    return (_within if ends.out_of else _inward)(client, sender, ends, tally, recursive=recursive)


def _outward(client: Client, ends: Ends, tally: Tally, report: Report, *, recursive: bool) -> Iterator[Job]:
    target = Path(ends.target)
    if not recursive:
        file = target / ends.source.rpartition("/")[2] if target.is_dir() else target
        yield ends.source, partial(copy_object, client, ends.source, file, report)
        return
    for key, relative in _below(client, ends.source):
        try:
            yield key, partial(copy_object, client, key, target_for(target, relative), report)
        except HeadraceError as error:
            tally.fail(key, error)


def _inward(client: Client, sender: Sender, ends: Ends, tally: Tally, *, recursive: bool) -> Iterator[Job]:
    source, base = Path(ends.source), ends.target.rstrip("/")
    if not recursive:
        if source.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a directory: copy all below it with `headrace cp -r`", str(source))
        yield str(source), partial(sender.send, source, _named(client, ends.target, source.name))
        return
    for file, relative in files_below(source, tally.fail):
        yield str(file), partial(sender.send, file, f"{base}/{relative}")


def _within(client: Client, sender: Sender, ends: Ends, tally: Tally, *, recursive: bool) -> Iterator[Job]:  # noqa: ARG001  as its siblings
    if not recursive:
        target = _named(client, ends.target, ends.source.rpartition("/")[2])
        yield ends.source, partial(sender.copy, ends.source, target)
        return
    for key, relative in _below(client, ends.source):
        yield key, partial(sender.copy, key, f"{ends.target.rstrip('/')}/{relative}")


def _named(client: Client, target: str, name: str) -> str:
    """`target`, or `name` in it where it is a directory."""
    if target.endswith("/") or target.count("/") == 1:
        return f"{target.rstrip('/')}/{name}"
    try:
        return f"{target}/{name}" if is_directory(client, target) else target
    except NotFound:
        return target


def _below(client: Client, root: str) -> Iterator[tuple[str, str]]:
    """Objects below the directory `root`, with what follows it in their keys; not what only marks a directory."""
    prefix = root.rstrip("/") + "/"
    for entry in client.ls(prefix, recursive=True):
        if not isinstance(entry, ObjectInfo) or not entry.key.startswith(prefix):
            continue
        relative = entry.key[len(prefix) :]
        if relative and not (relative.endswith("/") and entry.size == 0):
            yield entry.key, relative


class Tally:
    """What happened so far, said as it happens."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.copied = self.skipped = self.failed = self.bytes = 0

    def done(self, result: Copied) -> None:
        if result.skipped:
            self.skipped += 1
        else:
            self.copied += 1
            self.bytes += result.size
        if self._as_json:
            print_json(result)

    def fail(self, key: str, error: Exception) -> None:
        self.failed += 1
        warn(f"headrace: {error}" if key in str(error) else f"headrace: {key}: {error}")

    def close(self) -> None:
        if not self._as_json:
            failed = f", {self.failed} failed" if self.failed else ""
            say(f"{self.copied} copied ({format_size(self.bytes)}), {self.skipped} were there already{failed}")


@contextmanager
def _progress() -> Iterator[Report]:
    """A counter on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console  # noqa: PLC0415 - a pipe needs no Rich
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TimeElapsedColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("copying", total=None)
        yield lambda count: progress.advance(task, count)
