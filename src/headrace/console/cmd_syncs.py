"""`headrace sync`: waiting for stores, and two directories that are kept alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from headrace.console.client import AdminClient, need_server
from headrace.console.cmd_sync import sync as path_command
from headrace.console.following import follow, summary
from headrace.console.options import HintedGroup, Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, say, show_time, warn
from headrace.console.sync_client import SyncClient
from headrace.console.sync_rules import rule_options, spec_of
from headrace.control.sync.steps import Step, Verb
from headrace.ledger.records import JobState
from headrace.ledger.sync_records import Mode, SyncCounts, SyncRecord, SyncSpec
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


def _syncs(invocation: Invocation) -> SyncClient:
    return SyncClient(_server(invocation))


def _server(invocation: Invocation) -> AdminClient:
    settings = invocation.settings()
    return need_server(settings.home, settings.server.control_listen)


def _tell(invocation: Invocation, value: object, *lines: str) -> None:
    """The value for machines, or the lines for people."""
    if invocation.as_json:
        print_json(value)
        return
    for line in lines:
        say(line)


@sync.command()
@click.argument("a")
@click.argument("b")
@click.option("--name", help="What the sync is called; made of the paths if it is not given.")
@rule_options
@click.option("--dry-run", is_flag=True, help="Print what the first run would do; make and change nothing.")
@config_option
@json_option
@pass_invocation
def add(invocation: Invocation, a: str, b: str, name: str | None, dry_run: bool) -> int:
    """Keep the directories A and B of the namespace alike."""
    a, b = (path.rstrip("/") or "/" for path in (a, b))
    spec = spec_of(name or default_name(a, b), a, b)
    syncs = _syncs(invocation)
    if dry_run:
        return _show_plan(invocation, syncs, spec)
    record = syncs.add(spec)
    words = [_headline(spec)]
    if not spec.schedule:
        words.append(f"it has no schedule: run it with `headrace sync run {spec.name}`")
    _tell(invocation, record, *words)
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
    records = _syncs(invocation).all()
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
    record = _syncs(invocation).get(name)
    spec, state = record.spec, record.state
    _tell(
        invocation,
        record,
        _headline(spec),
        f"conflicts: {spec.conflict}; removes at most {spec.max_delete} % of a side; {spec.transfers} transfers at once",
        f"schedule: {spec.schedule or 'none'}{' (paused)' if record.paused else ''}; bandwidth: {spec.bandwidth or 'no bound'}",
        f"last run: {show_time(state.started_s)}, {_ended(record)}",
        f"objects: {state.objects_a} in {spec.a}, {state.objects_b} in {spec.b}",
        f"initial: {_counted(state.initial)}",
        f"live: {_counted(state.live)}",
    )


def _counted(counts: SyncCounts) -> str:
    return (
        f"{counts.to_b} copied to B, {counts.to_a} to A ({format_size(counts.bytes)}, {counts.verified} verified), "
        f"{counts.agreed} were alike, {counts.deleted_b} removed from B, {counts.deleted_a} from A, {counts.conflicts} conflicts"
    )


def _headline(spec: SyncSpec) -> str:
    return f"{spec.name}: {spec.mode} {spec.a} {'->' if spec.mode is Mode.MIRROR else '<->'} {spec.b}"


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
    server = _server(invocation)
    syncs = SyncClient(server)
    if dry_run:
        return _show_plan(invocation, syncs, syncs.get(name).spec)
    record = syncs.run(name, force=force)
    if not detach:
        try:
            record = follow(server, record, "syncing", quiet=invocation.as_json)
        except KeyboardInterrupt:
            warn(f"job {record.id} goes on: `headrace jobs` shows it, `headrace jobs --cancel {record.id}` stops it")
            return 1
    _tell(invocation, record, summary(record))
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
            _tell(invocation, _step_value(step), _step_words(spec, step))
    if not invocation.as_json:
        done = ", ".join(f"{count} to {verb}" for verb, count in counts.items() if count) or "nothing to do"
        say(f"{done} ({format_size(size)}); {agreed} alike; {objects_a} objects in {spec.a}, {objects_b} in {spec.b}")
    return 0


def _step_value(step: Step) -> dict[str, object]:
    return {"verb": step.verb, "key": step.key, "towards": step.towards, "bytes": step.size, "conflict": step.is_conflict}


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
    _syncs(invocation).remove(name)
    _tell(invocation, {"name": name}, f"{name} is removed; the objects stay as they are")


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
    record = _syncs(invocation).set_paused(name, paused)
    _tell(invocation, record, f"{name} {'is paused' if paused else 'follows its schedule: ' + (record.spec.schedule or 'none')}")
