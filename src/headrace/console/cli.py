"""The `headrace` command. Imports click and nothing else until it is known which subcommand runs."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from headrace.console.options import HintedGroup, Invocation, config_option
from headrace.model.errors import HeadraceError, SettingsError


class Lazy(NamedTuple):
    """A subcommand: where it lives, and its line in `headrace --help` (a test holds it equal to the command's own)."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Lazy] = {
    "up": Lazy("headrace.console.cmd_up", "up", "Run everything here: data port, control port, page keeper."),
    "mount": Lazy("headrace.console.cmd_mount", "mount", "Show and change what is mounted where."),
    "ls": Lazy("headrace.console.cmd_data", "ls", "List a directory of the namespace."),
    "stat": Lazy("headrace.console.cmd_data", "stat", "Show what is known of one object."),
    "cat": Lazy("headrace.console.cmd_data", "cat", "Write an object's bytes to standard output."),
    "cp": Lazy("headrace.console.cmd_cp", "cp", "Copy objects out of the namespace, files into it, or objects within it."),
    "fuse": Lazy("headrace.console.cmd_fuse", "fuse", "Show the namespace as a directory of this machine."),
    "rm": Lazy("headrace.console.cmd_rm", "rm", "Remove objects from the namespace and from their stores."),
    "load": Lazy("headrace.console.cmd_jobs", "load", "Bring objects into the cache before they are read."),
    "free": Lazy("headrace.console.cmd_jobs", "free", "Drop pages from the cache; nothing at the store changes."),
    "pin": Lazy("headrace.console.cmd_jobs", "pin", "Keep pages from eviction, or allow it again."),
    "jobs": Lazy("headrace.console.cmd_jobs", "jobs", "Show jobs, cancel them, or go on with them."),
    "sync": Lazy(
        "headrace.console.cmd_syncs",
        "sync",
        "Find what changed at the stores, wait until they have what was written, or keep two directories alike.",
    ),
    "conflicts": Lazy("headrace.console.cmd_sync", "conflicts", "Show and settle writes that met another's at the store."),
    "leftovers": Lazy("headrace.console.cmd_leftovers", "leftovers", "Show what mounts that are gone have left here."),
    "status": Lazy("headrace.console.cmd_status", "status", "Show how the node fares, and where its page is."),
    "top": Lazy("headrace.console.cmd_status", "top", "Watch the node live."),
    "settings": Lazy("headrace.console.cmd_settings", "settings", "Document every key of headrace.toml, with its default."),
    "doctor": Lazy("headrace.console.cmd_doctor", "doctor", "Check this machine and every mount, with remedies."),
    "demo": Lazy("headrace.console.demo", "demo", "Show Headrace on real data behind a slow link."),
    "bench": Lazy("headrace.console.bench", "bench", "Measure Headrace beside its peers."),
}


class LazyGroup(HintedGroup):
    """Lists its subcommands from the table and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click names them
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click names them
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click names them
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="headrace", message="%(prog)s %(version)s")
@config_option
def headrace() -> None:
    """One namespace and a page cache between your stores and your compute."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line. Exits with 0 (done), 1 (failed) or 2 (wrong usage)."""
    invocation = Invocation()
    code = _run(args, invocation)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    sys.exit(code)


def _run(args: Sequence[str] | None, invocation: Invocation) -> int:
    try:
        result = headrace.main(args=args, prog_name="headrace", standalone_mode=False, obj=invocation)
    except click.UsageError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _fail("Error", error.format_message(), 1, invocation)
    except (click.Abort, KeyboardInterrupt):
        return _fail("Interrupted", "interrupted", 1, invocation)
    except HeadraceError as error:
        return _fail(type(error).__name__, str(error), 2 if isinstance(error, SettingsError) else 1, invocation)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        return _fail("OSError", f"{named}{error.strerror or error}", 1, invocation)
    return result if isinstance(result, int) else 0


def _fail(kind: str, message: str, code: int, invocation: Invocation) -> int:
    from headrace.console.printer import safe  # noqa: PLC0415 - only a failure needs it

    if invocation.as_json:
        click.echo(json.dumps({"error": {"kind": kind, "message": message}}), err=True)
    else:
        click.echo(f"headrace: {safe(message)}", err=True)
    return code
