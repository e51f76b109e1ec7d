"""Watching a job of the running node until it is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headrace.console.client import AdminClient
from headrace.ledger.records import JobProgress, JobRecord
from headrace.model.units import format_size

_POLL_S = 0.25


def follow(server: AdminClient, record: JobRecord, doing: str, *, quiet: bool) -> JobRecord:
    """The job when it is over. On a terminal a bar shows how far it is, unless `quiet`."""
    with _bar(doing, quiet=quiet) as show:
        while not record.state.over:
            show(record.progress)
            time.sleep(_POLL_S)
            record = server.job(record.id)
        show(record.progress)
    return record


@contextmanager
def _bar(doing: str, *, quiet: bool) -> Iterator[Callable[[JobProgress], None]]:
    """A progress bar on a terminal; its total grows while the listing goes on."""
    if quiet or not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich.console import Console  # noqa: PLC0415 - a pipe needs no Rich
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)

        def show(now: JobProgress) -> None:
            more = "" if now.all_known else "+"
            text = f"{now.objects_done} of {now.objects_known}{more} objects"
            progress.update(task, completed=now.bytes_done, total=now.bytes_known or None, description=text)

        yield show


def summary(record: JobRecord) -> str:
    """A job in one line."""
    done = f"{record.progress.objects_done} objects, {format_size(record.progress.bytes_done)}"
    if record.error:
        return f"job {record.id} {record.state}: {done}; {record.error}"
    return f"job {record.id} {record.state}: {done}"
