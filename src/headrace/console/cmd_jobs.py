"""`headrace load`, `free`, `pin` and `jobs`: work for the running node."""

from __future__ import annotations

import click

from headrace.console.client import AdminClient, need_server
from headrace.console.following import follow, summary
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, say, show_time, warn
from headrace.ledger.records import JobRecord, JobState
from headrace.model.units import format_size


def _server(invocation: Invocation) -> AdminClient:
    settings = invocation.settings()
    return need_server(settings.home, settings.server.control_listen)


@click.command()
@click.argument("path", required=False)
@click.option("--resume", metavar="JOB", help="Go on with a job that failed or was cancelled.")
@click.option("--detach", is_flag=True, help="Do not wait: the server goes on by itself.")
@config_option
@json_option
@pass_invocation
def load(invocation: Invocation, path: str | None, resume: str | None, detach: bool) -> int:
    """Bring objects into the cache before they are read.

    PATH is one object or a directory. The server does the work: Ctrl-C leaves the job running.
    """
    if (path is None) == (resume is None):
        raise click.UsageError("name a PATH, or a job with --resume")
    server = _server(invocation)
    record = server.load(_plain(path)) if path is not None else server.resume_job(resume or "")
    if not detach:
        try:
            record = follow(server, record, "loading", quiet=invocation.as_json)
        except KeyboardInterrupt:
            warn(f"job {record.id} goes on: `headrace jobs` shows it, `headrace jobs --cancel {record.id}` stops it")
            return 1
    if invocation.as_json:
        print_json(record)
    else:
        say(summary(record))
    if record.state is JobState.DONE and not record.progress.objects_known:
        warn(f"headrace: nothing is at {record.target}: `headrace ls` shows what there is")
        return 1
    return 1 if record.state in (JobState.FAILED, JobState.CANCELLED) else 0


def _plain(path: str) -> str:
    return path.rstrip("/") or "/"


@click.command()
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="Everything below PATH, as with a slash at its end.")
@config_option
@json_option
@pass_invocation
def free(invocation: Invocation, path: str, recursive: bool) -> None:
    """Drop pages from the cache; nothing at the store changes."""
    deep = recursive or path.endswith("/")
    freed = _server(invocation).free(_plain(path) if deep else path, prefix=deep)
    if invocation.as_json:
        print_json({"path": path, "bytes": freed})
    elif not freed and not deep:
        say(f"freed 0 B: the cache holds nothing of an object {path}; `headrace free -r {path}` frees all below it")
    else:
        say(f"freed {format_size(freed)}")


@click.command()
@click.argument("path", required=False)
@click.option("--off", is_flag=True, help="Allow eviction again.")
@config_option
@json_option
@pass_invocation
def pin(invocation: Invocation, path: str | None, off: bool) -> None:
    """Keep pages from eviction, or allow it again.

    Without PATH, show what is pinned. A pin covers PATH and everything below it.
    """
    server = _server(invocation)
    if path is None:
        paths = server.pins()
        if invocation.as_json:
            print_json(paths)
        else:
            for pinned in paths:
                say(pinned)
        return
    changed = server.pin(path, not off)
    if invocation.as_json:
        print_json({"path": path, "pinned": not off, "changed": changed})
    else:
        say(f"{path} is {'not pinned' if off else 'pinned'}{'' if changed else ', as it was'}")


@click.command()
@click.option("--cancel", metavar="JOB", help="Stop this job; what it loaded stays.")
@config_option
@json_option
@pass_invocation
def jobs(invocation: Invocation, cancel: str | None) -> None:
    """Show jobs, cancel them, or go on with them.

    `headrace load --resume JOB` goes on with one that failed or was cancelled.
    """
    server = _server(invocation)
    if cancel is not None:
        record = server.cancel_job(cancel)
        if invocation.as_json:
            print_json(record)
        else:
            say(summary(record))
        return
    records = server.jobs()
    if invocation.as_json:
        print_json(records)
        return
    print_table(
        ("JOB", "KIND", "PATH", "STATE", "OBJECTS", "BYTES", "CHANGED", "ERROR"),
        [_row(record) for record in records],
        right=frozenset({4, 5}),
    )


def _row(record: JobRecord) -> tuple[str, ...]:
    now = record.progress
    objects = f"{now.objects_done}/{now.objects_known}{'' if now.all_known else '+'}"
    changed = show_time(record.updated_s)
    return record.id, record.kind, record.target, record.state.value, objects, format_size(now.bytes_done), changed, record.error
