"""`headrace ls`, `stat` and `cat`: reading the namespace as any Python program would."""

from __future__ import annotations

import sys

import click

from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, safe, say, show_time
from headrace.console.reading import naming, open_client
from headrace.model.objects import CommonPrefix, Entry

_CHUNK_BYTES = 1024 * 1024


@click.command()
@click.argument("path", default="/")
@click.option("-r", "--recursive", is_flag=True, help="Every object below PATH.")
@config_option
@json_option
@pass_invocation
def ls(invocation: Invocation, path: str, recursive: bool) -> None:
    """List a directory of the namespace."""
    with open_client(invocation) as client:
        for entry in client.ls(path, recursive):
            if invocation.as_json:
                print_json(entry)
            else:
                click.echo(_line(entry))


def _line(entry: Entry) -> str:
    if isinstance(entry, CommonPrefix):
        return f"{'-':>15}  {'-':<19}  {safe(entry.key)}"
    return f"{entry.size:>15}  {show_time(entry.modified_s):<19}  {safe(entry.key)}"


@click.command()
@click.argument("path")
@config_option
@json_option
@pass_invocation
def stat(invocation: Invocation, path: str) -> None:
    """Show what is known of one object."""
    with open_client(invocation) as client, naming(path):
        info = client.stat(path)
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


@click.command()
@click.argument("paths", nargs=-1, required=True)
@config_option
@pass_invocation
def cat(invocation: Invocation, paths: tuple[str, ...]) -> None:
    """Write an object's bytes to standard output."""
    out = sys.stdout.buffer
    with open_client(invocation) as client:
        for path in paths:
            with naming(path):
                for piece in client.iter_bytes(path, _CHUNK_BYTES):
                    out.write(piece)
    out.flush()
