"""`headrace rm`: objects out of the namespace, and so out of their stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import click
import msgspec

from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.parallel import run_all
from headrace.console.printer import print_json, safe, say, warn
from headrace.console.reading import namespace_path, naming, open_client
from headrace.model.errors import NotFound, SettingsError
from headrace.model.objects import ObjectInfo

if TYPE_CHECKING:
    from headrace.client import Client

_PARALLEL = 16
_SHOWN = 5


class Removed(msgspec.Struct, frozen=True):
    """An object that was removed, or with `--dry-run` would be."""

    key: str
    size: int
    removed: bool


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Everything below each PATH.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
@pass_invocation
def rm(invocation: Invocation, paths: tuple[str, ...], recursive: bool, dry_run: bool, yes: bool) -> int:
    """Remove objects from the namespace and from their stores."""
    wholes = [namespace_path(path) for path in paths]
    if "/" in wholes:
        raise SettingsError("everything in every mount would be removed: name a bucket")
    removing = _Removing(invocation, dry_run=dry_run)
    with open_client(invocation) as client:
        for path, whole in zip(paths, wholes, strict=True):
            with naming(invocation, client, path):
                found = [client.stat(whole)] if not recursive else []
            if not dry_run and not yes and not _agreed(client, whole, found):
                warn("nothing was removed")
                return 1
            with naming(invocation, client, path):
                removing.remove(client, whole, found, recursive=recursive)
    removing.close()
    return 1 if removing.failed else 0


def _agreed(client: Client, whole: str, found: list[ObjectInfo]) -> bool:
    """Whether it may be done: asked on a terminal, taken for granted in a script."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    shown = found or list(islice(_below(client, whole), _SHOWN + 1))
    for info in shown[:_SHOWN]:
        click.echo(f"  {safe(info.key)}", err=True)
    if len(shown) > _SHOWN:
        click.echo("  …", err=True)
    return click.confirm(f"Remove {'everything below ' if not found else ''}{safe(whole)}?", err=True)


def _below(client: Client, whole: str) -> Iterator[ObjectInfo]:
    """The object at `whole`, and every one below it."""
    plain = whole.rstrip("/")
    try:
        if plain == whole and plain.count("/") > 1:
            yield client.stat(plain)
    except NotFound:
        pass
    for entry in client.ls(plain + "/", recursive=True):
        if isinstance(entry, ObjectInfo) and entry.key.startswith(plain + "/"):
            yield entry


class _Removing:
    def __init__(self, invocation: Invocation, *, dry_run: bool) -> None:
        self._as_json = invocation.as_json
        self._dry_run = dry_run
        self.removed = self.failed = 0

    def remove(self, client: Client, whole: str, found: list[ObjectInfo], *, recursive: bool) -> None:
        before = self.removed + self.failed
        objects = iter(found) if found else _below(client, whole)
        jobs = ((info.key, partial(self._one, client, info)) for info in objects)
        run_all(jobs, self._done, self._fail, parallel=1 if self._dry_run else _PARALLEL)
        if recursive and self.removed + self.failed == before:
            raise NotFound(f"there is no {whole}: `headrace ls` shows what there is", path=whole)

    def _one(self, client: Client, info: ObjectInfo) -> Removed:
        if not self._dry_run:
            client.delete(info.key)
        return Removed(info.key, info.size, not self._dry_run)

    def _done(self, result: Removed) -> None:
        self.removed += 1
        if self._as_json:
            print_json(result)
        elif self._dry_run:
            say(result.key)

    def _fail(self, key: str, error: Exception) -> None:
        self.failed += 1
        warn(f"headrace: {error}" if key in str(error) else f"headrace: {key}: {error}")

    def close(self) -> None:
        if not self._as_json:
            failed = f", {self.failed} failed" if self.failed else ""
            say(f"{self.removed} {'would be removed' if self._dry_run else 'removed'}{failed}")
