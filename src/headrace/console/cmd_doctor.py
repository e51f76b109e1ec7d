"""`headrace doctor`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from headrace.console.checks import Check, Level, check_clock, check_disk, check_machine, check_port
from headrace.console.client import AdminClient, find_server
from headrace.console.local import open_plane, try_here
from headrace.console.messages import MountView
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, say
from headrace.model.errors import HeadraceError
from headrace.model.mounts import MountSpec, Residency
from headrace.settings import Settings


@click.command()
@config_option
@json_option
@pass_invocation
def doctor(invocation: Invocation) -> int:
    """Check this machine and every mount, with remedies."""
    settings = invocation.settings()
    server = find_server(settings.home, settings.server.control_listen)
    specs, findings = _mounts(settings, server)
    memory_only = any(spec.residency is Residency.MEMORY for spec in specs)
    findings = check_machine(settings.cache.memory_bytes if memory_only else 0) + _disks(settings) + findings
    findings += _server(settings, server) + _leftovers(settings, specs)
    for spec in specs:
        findings += _mount(spec)
    if invocation.as_json:
        print_json(findings)
    else:
        rows = [(check.level.value, check.name, check.detail, check.remedy) for check in findings]
        print_table(("", "CHECK", "FOUND", "REMEDY"), rows)
        bad = sum(check.level is not Level.OK for check in findings)
        say("all is well" if not bad else f"{bad} of {len(findings)} checks found something")
    return 1 if any(check.level is Level.FAILED for check in findings) else 0


def _disks(settings: Settings) -> list[Check]:
    tiers = [check_disk(Path(disk.root(settings.home)), disk.capacity_bytes) for disk in settings.cache.disk]
    return [check_disk(settings.home, 0), *tiers]


def _server(settings: Settings, server: AdminClient | None) -> list[Check]:
    if server is not None:
        return [Check("server", Level.OK, f"runs at {server.url}")]
    listens = (("data_listen", settings.server.data_listen), ("control_listen", settings.server.control_listen))
    return [check_port(name, listen) for name, listen in listens]


def _leftovers(settings: Settings, specs: tuple[MountSpec, ...]) -> list[Check]:
    from headrace.node.leftovers import find_leftovers  # noqa: PLC0415 - as `try_here`
    from headrace.wiring import Journals, Scratch  # noqa: PLC0415

    journals = Journals(settings.staging.root(settings.home), settings.staging)
    scratch = Scratch(settings.scratch.root(settings.home), settings.scratch)
    found = find_leftovers(journals, scratch, specs)
    return [Check(f"{left.kind} of {left.mount}", Level.WARNING, left.words().partition(";")[0], left.remedy) for left in found]


def _mounts(settings: Settings, server: AdminClient | None) -> tuple[tuple[MountSpec, ...], list[Check]]:
    try:
        if server is not None:
            views = server.mounts()
            return tuple(view.spec for view in views), [check for view in views for check in _served(view)]
        with open_plane(settings) as plane:
            return tuple(entry.spec for entry in plane.mounts()), []
    except HeadraceError as error:
        return settings.mount, [Check("settings", Level.FAILED, str(error), "correct this first")]


def _served(view: MountView) -> list[Check]:
    """What the server says of a mount that it does not serve: here, under another user and other limits, all may be well."""
    if view.health is None or view.health.healthy:
        return []
    remedy = "correct what it says where the server runs; it tries again by itself"
    return [Check(f"server: {view.spec.path}", Level.FAILED, view.health.error, remedy)]


def _mount(spec: MountSpec) -> list[Check]:
    try:
        try_here(spec)
    except HeadraceError as error:
        remedy = f"correct it with `headrace mount set {spec.path}`, or look at its store"
        return [Check(f"mount {spec.path}", Level.FAILED, str(error), remedy)]
    found = [Check(f"mount {spec.path}", Level.OK, f"{spec.store or 'union'} lists and reads")]
    if spec.endpoint:
        clock = check_clock(spec.endpoint, time.time())
        found += [clock] if clock is not None else []
    return found
