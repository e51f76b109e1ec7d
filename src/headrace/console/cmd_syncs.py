"""`headrace sync`: waiting for stores, and two directories that are kept alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from headrace.console.client import AdminClient, need_server
from headrace.console.cmd_sync import sync as path_command
from headrace.console.following import follow, summary
from headrace.console.options import HintedGroup, Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, say, show_time, warn
from headrace.console.sync_client import SyncClient
from headrace.control.sync.steps import Step, Verb
from headrace.ledger.records import JobRecord, JobState
from headrace.ledger.sync_records import (
    DEFAULT_MAX_DELETE,
    DEFAULT_TRANSFERS,
    ConflictRule,
    Mode,
    SyncCounts,
    SyncRecord,
    SyncSpec,
)
from headrace.model.units import format_size

_PATH_COMMAND = "path"
_HELP = frozenset({"-h", "--help"})
_PLAIN = re.compile(r"[^A-Za-z0-9]+")


class SyncGroup(HintedGroup):
    """`headrace sync PATH …` and `headrace sync --wait` are the command that waits for stores."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self._is_path_command(args):
            args = [_PATH_COMMAND, *args]
        return super().parse_args(ctx, args)

    def _is_path_command(self, args: Sequence[str]) -> bool:
        rest = list(args)
        while rest and rest[0] == "--config":
            rest = rest[2:]
        rest = [arg for arg in rest if arg != "--json"]
        return not rest or (rest[0] not in _HELP and rest[0].startswith(("/", "-")))


@click.group(cls=SyncGroup)
@config_option
@json_option
def sync() -> None:
    """Find what changed at the stores, wait until they have what was written, or keep two directories alike.

    `headrace sync PATH` looks for changes, `headrace sync PATH --wait` waits for writes: `headrace sync path --help`.
    """


sync.add_command(path_command, _PATH_COMMAND)


def _servers(invocation: Invocation) -> tuple[AdminClient, SyncClient]:
    settings = invocation.settings()
    server = need_server(settings.home, settings.server.control_listen)
    return server, SyncClient(server)


@sync.command()
@click.argument("a")
@click.argument("b")
@click.option("--name", help="What the sync is called; made of the paths if it is not given.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.MIRROR.value,
    show_default=True,
    help="mirror: B becomes what A is; two-way: what changes on either side is brought to the other.",
)
@click.option(
    "--conflict",
    type=click.Choice([rule.value for rule in ConflictRule]),
    default=ConflictRule.NEWEST.value,
    show_default=True,
    help="Two-way: which version stays of an object that changed on both sides.",
)
@click.option(
    "--schedule",
    default="",
    metavar="WHEN",
    help="An interval such as 10m, times of day such as 02:00,14:30, or live; else only when you run it.",
)
@click.option("--bandwidth", default="", metavar="RATE", help="50MiB/s, or for parts of the day: 09:00-18:00=50MiB/s,…")
@click.option("--transfers", type=int, default=DEFAULT_TRANSFERS, show_default=True, help="Objects under way at once.")
@click.option("--checksum", is_flag=True, help="Read both sides where ETags cannot be compared, instead of copying.")
@click.option(
    "--max-delete",
    type=int,
    default=DEFAULT_MAX_DELETE,
    show_default=True,
    metavar="PERCENT",
    help="Remove at most this share of a side's objects in one run, unless it is forced.",
)
@click.option("--dry-run", is_flag=True, help="Print what the first run would do; make and change nothing.")
@config_option
@json_option
@pass_invocation
def add(invocation: Invocation, /, a: str, b: str, name: str | None, dry_run: bool, **rules: Any) -> int:
    """Keep the directories A and B of the namespace alike."""
    _, syncs = _servers(invocation)
    a, b = (path.rstrip("/") or "/" for path in (a, b))
    mode, conflict = Mode(rules.pop("mode")), ConflictRule(rules.pop("conflict"))
    spec = SyncSpec(name or default_name(a, b), a, b, mode, conflict, **rules)
    if dry_run:
        return _show_plan(invocation, syncs, spec)
    record = syncs.add(spec)
    if invocation.as_json:
        print_json(record)
        return 0
    say(f"{spec.name}: {spec.mode} {spec.a} {_arrow(spec)} {spec.b}")
    if not spec.schedule:
        say(f"it has no schedule: run it with `headrace sync run {spec.name}`")
    return 0


def default_name(a: str, b: str) -> str:
    """A name out of the paths."""
    return "-".join(_PLAIN.sub("-", path).strip("-") for path in (a, b))[:64].strip("-")


@sync.command(name="ls")
@config_option
@json_option
@pass_invocation
def list_syncs(invocation: Invocation) -> None:
    """Show all syncs, and how their last runs ended."""
    _, syncs = _servers(invocation)
    records = syncs.all()
    if invocation.as_json:
        print_json(records)
        return
    head = ("NAME", "MODE", "A", "B", "SCHEDULE", "INITIAL", "LIVE", "LAST RUN", "HOW IT ENDED")
    print_table(head, [_row(record) for record in records], right=frozenset({5, 6}))


def _row(record: SyncRecord) -> tuple[str, ...]:
    spec, state = record.spec, record.state
    schedule = "paused" if record.paused else spec.schedule or "-"
    counts = str(state.initial.done), str(state.live.done)
    return spec.name, spec.mode, spec.a, spec.b, schedule, *counts, show_time(state.started_s), _ended(record)


def _ended(record: SyncRecord) -> str:
    state = record.state
    if not state.started_s:
        return "not run yet"
    if state.ended_s < state.started_s:
        return "runs, or was broken off"
    return state.error or "well"


@sync.command()
@click.argument("name")
@config_option
@json_option
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show one sync: its rules, and what was done at first and since."""
    _, syncs = _servers(invocation)
    record = syncs.get(name)
    if invocation.as_json:
        print_json(record)
        return
    spec, state = record.spec, record.state
    say(f"{spec.name}: {spec.mode} {spec.a} {_arrow(spec)} {spec.b}")
    say(f"conflicts: {spec.conflict}; removes at most {spec.max_delete} % of a side; {spec.transfers} transfers at once")
    say(f"schedule: {spec.schedule or 'none'}{' (paused)' if record.paused else ''}; bandwidth: {spec.bandwidth or 'no bound'}")
    say(f"last run: {show_time(state.started_s)}, {_ended(record)}")
    say(f"objects: {state.objects_a} in {spec.a}, {state.objects_b} in {spec.b}")
    say(f"initial: {_counted(state.initial)}")
    say(f"live: {_counted(state.live)}")


def _counted(counts: SyncCounts) -> str:
    return (
        f"{counts.to_b} copied to B, {counts.to_a} to A ({format_size(counts.bytes)}, {counts.verified} verified), "
        f"{counts.agreed} were alike, {counts.deleted_b} removed from B, {counts.deleted_a} from A, {counts.conflicts} conflicts"
    )


def _arrow(spec: SyncSpec) -> str:
    return "->" if spec.mode is Mode.MIRROR else "<->"


@sync.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Print what would be done; change nothing.")
@click.option("--force", is_flag=True, help="Remove however much of a side is gone from the other.")
@click.option("--detach", is_flag=True, help="Do not wait: the server goes on by itself.")
@config_option
@json_option
@pass_invocation
def run(invocation: Invocation, name: str, dry_run: bool, force: bool, detach: bool) -> int:
    """Run a sync now.

    The server does the work: Ctrl-C leaves it running.
    """
    server, syncs = _servers(invocation)
    if dry_run:
        return _show_plan(invocation, syncs, syncs.get(name).spec)
    record = syncs.run(name, force=force)
    if not detach:
        try:
            record = follow(server, record, "syncing", quiet=invocation.as_json)
        except KeyboardInterrupt:
            warn(f"job {record.id} goes on: `headrace jobs` shows it, `headrace jobs --cancel {record.id}` stops it")
            return 1
    return _tell(invocation, record)


def _tell(invocation: Invocation, record: JobRecord) -> int:
    if invocation.as_json:
        print_json(record)
    else:
        say(summary(record))
    return 1 if record.state in (JobState.FAILED, JobState.CANCELLED) else 0


def _show_plan(invocation: Invocation, syncs: SyncClient, spec: SyncSpec) -> int:
    """One line a step, as they are found; the sums at the end."""
    counts, size, agreed = dict.fromkeys(Verb, 0), 0, 0
    objects_a = objects_b = 0
    for part in syncs.plan(spec):
        agreed, objects_a, objects_b = agreed + part.agreed, part.objects_a, part.objects_b
        for step in part.steps:
            counts[step.verb] += 1
            size += step.size
            if invocation.as_json:
                print_json(
                    {
                        "verb": step.verb,
                        "key": step.key,
                        "towards": step.towards,
                        "bytes": step.size,
                        "conflict": step.is_conflict,
                    }
                )
            else:
                say(_step_words(spec, step))
    if not invocation.as_json:
        done = ", ".join(f"{count} to {verb}" for verb, count in counts.items() if count) or "nothing to do"
        say(f"{done} ({format_size(size)}); {agreed} alike; {objects_a} objects in {spec.a}, {objects_b} in {spec.b}")
    return 0


def _step_words(spec: SyncSpec, step: Step) -> str:
    path = spec.a if step.towards == "a" else spec.b
    mark = " (conflict)" if step.is_conflict else ""
    if step.verb is Verb.DELETE:
        return f"delete {path}/{step.key}"
    if step.verb is Verb.COMPARE:
        return f"compare {step.key}"
    return f"{step.verb} {step.key} -> {path}, {format_size(step.size)}{mark}"


@sync.command()
@click.argument("name")
@config_option
@json_option
@pass_invocation
def rm(invocation: Invocation, name: str) -> None:
    """Forget a sync. No object is touched."""
    _, syncs = _servers(invocation)
    syncs.remove(name)
    if invocation.as_json:
        print_json({"name": name})
    else:
        say(f"{name} is removed; the objects stay as they are")


@sync.command()
@click.argument("name")
@config_option
@json_option
@pass_invocation
def pause(invocation: Invocation, name: str) -> None:
    """Follow a sync's schedule no more; a run that is under way goes on."""
    _pause(invocation, name, paused=True)


@sync.command()
@click.argument("name")
@config_option
@json_option
@pass_invocation
def resume(invocation: Invocation, name: str) -> None:
    """Follow a sync's schedule again."""
    _pause(invocation, name, paused=False)


def _pause(invocation: Invocation, name: str, *, paused: bool) -> None:
    _, syncs = _servers(invocation)
    record = syncs.set_paused(name, paused)
    if invocation.as_json:
        print_json(record)
    else:
        say(f"{name} {'is paused' if paused else 'follows its schedule: ' + (record.spec.schedule or 'none')}")
