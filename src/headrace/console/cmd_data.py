"""`headrace ls`, `stat` and `cat`: reading the namespace as any Python program would."""

from __future__ import annotations

import sys

import click

from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, safe, say, show_time, warn
from headrace.console.reading import is_directory, namespace_path, naming, open_client
from headrace.model.errors import NotFound
from headrace.model.objects import SCRATCH, SCRATCH_LOST, CommonPrefix, Entry

_CHUNK_BYTES = 1024 * 1024
_NOTES = {SCRATCH: "  (scratch)", SCRATCH_LOST: "  (scratch, lost)"}


@click.command()
@click.argument("path", default="/")
@click.option("-r", "--recursive", is_flag=True, help="Every object below PATH.")
@config_option
@json_option
@pass_invocation
def ls(invocation: Invocation, path: str, recursive: bool) -> None:
    """List a directory of the namespace."""
    seen = False
    with open_client(invocation) as client, naming(invocation, client, path):
        for entry in client.ls(path, recursive):
            seen = True
            if invocation.as_json:
                print_json(entry)
            else:
                click.echo(_line(entry))
        if seen:
            return
        if namespace_path(path) == "/":
            warn("nothing is mounted yet: `headrace mount add /name s3://bucket …` mounts a store")
        elif not is_directory(client, namespace_path(path)):
            raise NotFound(f"there is no {path}", path=path)


def _line(entry: Entry) -> str:
    if isinstance(entry, CommonPrefix):
        return f"{'-':>15}  {'-':<19}  {safe(entry.key)}"
    note = _NOTES.get(entry.storage_class, "")
    return f"{entry.size:>15}  {show_time(entry.modified_s):<19}  {safe(entry.key)}{note}"


@click.command()
@click.argument("path")
@config_option
@json_option
@pass_invocation
def stat(invocation: Invocation, path: str) -> None:
    """Show what is known of one object."""
    whole = namespace_path(path)
    with open_client(invocation) as client:
        try:
            info = client.stat(path)
        except NotFound:
            with naming(invocation, client, path):
                if not is_directory(client, whole):
                    raise
            _say_directory(whole, as_json=invocation.as_json)
            return
    if invocation.as_json:
        print_json(info)
        return
    rows = [
        ("path", info.key),
        ("size", f"{info.size} bytes"),
        ("version", info.version.token),
        ("etag", info.etag),
        ("modified", show_time(info.modified_s)),
        ("content type", info.content_type),
        ("storage class", info.storage_class),
        *((name, value) for name, value in info.headers),
        *((f"metadata {name}", value) for name, value in info.metadata),
        *((f"checksum {name}", value) for name, value in info.checksums),
    ]
    for name, value in rows:
        if value:
            say(f"{name + ':':<16} {value}")


def _say_directory(whole: str, *, as_json: bool) -> None:
    directory = CommonPrefix(whole.rstrip("/") + "/")
    if as_json:
        print_json(directory)
    else:
        say(f"{'path:':<16} {directory.key}")
        say(f"{'kind:':<16} directory: `headrace ls {directory.key}` shows what is in it")


@click.command()
@click.argument("paths", nargs=-1, required=True)
@config_option
@pass_invocation
def cat(invocation: Invocation, paths: tuple[str, ...]) -> None:
    """Write an object's bytes to standard output."""
    out = sys.stdout.buffer
    with open_client(invocation) as client:
        for path in paths:
            with naming(invocation, client, path):
                for piece in client.iter_bytes(path, _CHUNK_BYTES):
                    out.write(piece)
    out.flush()
