"""`headrace mount add|ls|rm|set`: through the running node, else on its ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import click
import msgspec

from headrace.console.client import AdminClient, find_server
from headrace.console.cmd_settings import field_docs
from headrace.console.local import ACTOR, open_plane, try_here
from headrace.console.messages import MountView
from headrace.console.options import HintedGroup, Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, say, show_health, warn
from headrace.console.unions import changed, members_changed, read_member
from headrace.control.mount_rules import check_path
from headrace.model.errors import NotFound
from headrace.model.mounts import MountSpec
from headrace.settings import Settings

_F = TypeVar("_F", bound=Callable[..., Any])
_OWN_ARGUMENTS = frozenset({"path", "store", "union"})


def mount_options(function: _F) -> _F:
    """One option for each field of `MountSpec`, in kebab-case; none of them has a default here.

    The command takes them as `**options`, so that a new field needs no line here.
    """
    meanings = field_docs(MountSpec)
    for field in reversed(msgspec.structs.fields(MountSpec)):
        if field.name in _OWN_ARGUMENTS:
            continue
        name = "--" + field.name.replace("_", "-")
        default = f" Default: {field.default}." if field.default not in ("", None, False) else ""
        shown = meanings.get(field.name, "").replace("`", "") + default
        if isinstance(field.default, bool):
            name = f"{name}/--no-{field.name.replace('_', '-')}"
            function = click.option(name, field.name, default=None, help=shown)(function)
        else:
            kind, metavar = _type_of(field.default)
            function = click.option(name, field.name, type=kind, default=None, metavar=metavar, help=shown)(function)
    return click.option(
        "--union",
        multiple=True,
        metavar="STORE[,OPTION=VALUE…]",
        help="Instead of a store: one member of a union; repeat it, in order of reading: the first that has a key wins. "
        "A member's own options (endpoint, credentials, region, freshness, …) win over those of the command.",
    )(function)


def _type_of(default: object) -> tuple[Any, str | None]:
    """What click checks, and the word in the help where click has none of its own."""
    if isinstance(default, StrEnum):
        return click.Choice([member.value for member in type(default)]), None
    return (int, "NUMBER") if isinstance(default, int) else (str, "VALUE")


def make_spec(base: MountSpec, options: dict[str, Any], union: tuple[str, ...] = ()) -> MountSpec:
    """`base` with the options that were given, which hold for the members of a union too. Raises `SettingsError`.

    `union` replaces the store or the members there were; a `store` among the options replaces a union.
    """
    given = {name: value for name, value in options.items() if value is not None}
    spec = changed(base, given, f"mount {base.path}")
    if union:
        return msgspec.structs.replace(spec, store="", union=tuple(read_member(text, spec) for text in union))
    if "store" in given:
        return msgspec.structs.replace(spec, union=(), write_target=0)
    return members_changed(spec, given) if spec.union else spec


@click.group(cls=HintedGroup)
@config_option
def mount() -> None:
    """Show and change what is mounted where."""


@mount.command("add")
@click.argument("path")
@click.argument("store", default="")
@mount_options
@config_option
@json_option
@pass_invocation
def add(invocation: Invocation, /, path: str, store: str, union: tuple[str, ...], **options: Any) -> None:
    """Mount STORE (such as s3://bucket/prefix) at PATH, after a try. With --union, mount several as one.

    Credentials go by reference, as whoever runs the server sees it: env:NAME, file:PATH, profile:NAME, instance or anonymous.
    """
    if store and union:
        raise click.UsageError(f"write STORE or --union, not both: --union {store} makes it the first member")
    spec = make_spec(MountSpec(path, store), options, union)
    settings = invocation.settings()
    server = find_server(settings.home, settings.server.control_listen)
    if server is not None:
        is_empty = server.add_mount(spec)
    else:
        with open_plane(settings) as plane:
            plane.check_new(spec)
            is_empty = not try_here(spec)
            plane.add_mount(spec, actor=ACTOR)
    note = "; note: nothing is there yet" if is_empty else ""
    _done(invocation, server, spec, f"mounted {path}{note}")


@mount.command("set")
@click.argument("path")
@click.option("--store", default=None, metavar="URL", help="Another store.")
@mount_options
@config_option
@json_option
@pass_invocation
def set_(invocation: Invocation, /, path: str, union: tuple[str, ...], **options: Any) -> None:
    """Change options of the mount at PATH, after a try. What is not named stays."""
    if not union and all(value is None for value in options.values()):
        raise click.UsageError("name at least one option to change")
    if union and options["store"] is not None:
        raise click.UsageError("write --store or --union, not both")
    check_path(path)
    settings = invocation.settings()
    server = find_server(settings.home, settings.server.control_listen)
    current = _find(_views(settings, server), path).spec
    spec = make_spec(current, options, union)
    if server is not None:
        server.replace_mount(spec, expected=current)
    else:
        with open_plane(settings) as plane:
            plane.check_replacement(spec)
            try_here(spec)
            plane.replace_mount(spec, expected=current, actor=ACTOR)
    _done(invocation, server, spec, f"changed {path}")


@mount.command("rm")
@click.argument("path")
@config_option
@json_option
@pass_invocation
def rm(invocation: Invocation, path: str) -> None:
    """Take the mount at PATH away. Nothing at its store changes."""
    check_path(path)
    settings = invocation.settings()
    server = find_server(settings.home, settings.server.control_listen)
    if server is not None:
        server.remove_mount(path)
    else:
        with open_plane(settings) as plane:
            plane.remove_mount(path, actor=ACTOR)
    _done(invocation, server, MountSpec(path), f"took {path} away")


@mount.command("ls")
@config_option
@json_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """Show all mounts."""
    settings = invocation.settings()
    views = _views(settings, find_server(settings.home, settings.server.control_listen))
    if invocation.as_json:
        print_json(views)
        return
    rows = [
        (v.spec.path, _each(v.spec, "store"), _each(v.spec, "freshness"), _each(v.spec, "residency"), v.origin, _health(v))
        for v in views
    ]
    if not rows:
        say("nothing is mounted yet: headrace mount add /name s3://bucket --endpoint URL --credentials env:NAME")
        return
    print_table(("PATH", "STORE", "FRESHNESS", "RESIDENCY", "FROM", "HEALTH"), rows)


def _views(settings: Settings, server: AdminClient | None) -> tuple[MountView, ...]:
    if server is not None:
        return server.mounts()
    with open_plane(settings) as plane:
        return tuple(MountView(entry.spec, entry.origin) for entry in plane.mounts())


def _find(views: tuple[MountView, ...], path: str) -> MountView:
    for view in views:
        if view.spec.path == path:
            return view
    raise NotFound(f"nothing is mounted at {path}: see `headrace mount ls`")


def _each(spec: MountSpec, name: str) -> str:
    """An option of the mount; of a union, every member's in their order, or the one that all share."""
    values = [str(getattr(member, name)) for member in spec.union or (spec,)]
    return values[0] if len(set(values)) == 1 else " + ".join(values)


def _health(view: MountView) -> str:
    if view.health is None:
        return "-"
    return show_health(view.health, time.time())


def _done(invocation: Invocation, server: AdminClient | None, spec: MountSpec, words: str) -> None:
    if server is None:
        warn("no server runs here: this was written into its ledger, and holds when it starts")
    if invocation.as_json:
        print_json(spec)
    else:
        say(words)
