"""`headrace cp`: objects out of the namespace into local files, in parallel, resumable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.console.copying import Copied, Report, copy_object, target_for
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, say, warn
from headrace.console.reading import namespace_path, naming, open_client
from headrace.model.errors import HeadraceError, Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.units import format_size

if TYPE_CHECKING:
    from headrace.client import Client

Job = tuple[str, Path]


@click.command()
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("-r", "--recursive", is_flag=True, help="All objects below SOURCE, into the directory TARGET.")
@click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Objects at a time.")
@config_option
@json_option
@pass_invocation
def cp(invocation: Invocation, source: str, target: Path, recursive: bool, parallel: int) -> int:
    """Copy objects out of the namespace into local files.

    Run it again after a break: whole copies of the same version are left alone, unfinished ones go on.
    """
    if source.startswith(("./", "../", "~")) or str(target).startswith("headrace:/"):
        raise Unsupported("this release only reads: cp copies out of the namespace; writes come later")
    whole = namespace_path(source)
    tally = Tally(invocation.as_json)
    with open_client(invocation) as client, naming(invocation, client, whole), _progress() as report:
        if recursive:
            jobs = plan(client, whole.rstrip("/") + "/", target, tally)
            copy_all(client, jobs, tally, parallel=parallel, report=report)
        else:
            file = target / whole.rpartition("/")[2] if target.is_dir() else target
            tally.done(copy_object(client, whole, file, report))
    tally.close()
    if recursive and not (tally.copied or tally.skipped or tally.failed):
        warn(f"headrace: nothing lies below {whole}: without -r, cp copies one object")
    return 1 if tally.failed or (recursive and not tally.copied and not tally.skipped) else 0


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


def plan(client: Client, prefix: str, root: Path, tally: Tally) -> Iterator[Job]:
    """Objects below `prefix` and where each goes; keys that cannot be file names are counted as failed."""
    for entry in client.ls(prefix, recursive=True):
        if not isinstance(entry, ObjectInfo) or not entry.key.startswith(prefix):
            continue
        relative = entry.key[len(prefix) :]
        if relative == "" or (relative.endswith("/") and entry.size == 0):
            continue
        try:
            yield entry.key, target_for(root, relative)
        except HeadraceError as error:
            tally.fail(entry.key, error)


def copy_all(client: Client, jobs: Iterator[Job], tally: Tally, *, parallel: int, report: Report) -> None:
    """Run the jobs, never more than a few ahead of the listing."""
    waiting: dict[Future[Copied], str] = {}
    with ThreadPoolExecutor(parallel, thread_name_prefix="cp") as pool:
        try:
            for key, target in jobs:
                waiting[pool.submit(copy_object, client, key, target, report)] = key
                if len(waiting) >= 2 * parallel:
                    _collect(waiting, tally)
            while waiting:
                _collect(waiting, tally)
        except BaseException:  # whatever it is: tidied up here, raised on
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _collect(waiting: dict[Future[Copied], str], tally: Tally) -> None:
    ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in ended:
        key = waiting.pop(future)
        try:
            tally.done(future.result())
        except (HeadraceError, OSError) as error:
            tally.fail(key, error)


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
