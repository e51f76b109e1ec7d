"""The options of `headrace sync add` that are a sync's rules: each is called as its field of `SyncSpec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec

from headrace.ledger.sync_records import DEFAULT_MAX_DELETE, DEFAULT_TRANSFERS, ConflictRule, Mode, SyncSpec

_F = TypeVar("_F", bound=Callable[..., Any])
_FOUND = __name__


class _Rule(click.Option):
    """Kept for `spec_of` instead of being an argument of the command."""

    def handle_parse_result(self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]) -> tuple[Any, list[str]]:
        value, rest = super().handle_parse_result(ctx, opts, args)
        if self.name is not None and self.name in ctx.params:
            ctx.meta.setdefault(_FOUND, {})[self.name] = ctx.params.pop(self.name)
        return value, rest


_OPTIONS = (
    click.option(
        "--mode",
        cls=_Rule,
        type=click.Choice([mode.value for mode in Mode]),
        default=Mode.MIRROR.value,
        show_default=True,
        help="mirror: B becomes what A is; two-way: what changes on either side is brought to the other.",
    ),
    click.option(
        "--conflict",
        cls=_Rule,
        type=click.Choice([rule.value for rule in ConflictRule]),
        default=ConflictRule.NEWEST.value,
        show_default=True,
        help="Two-way: which version stays of an object that changed on both sides.",
    ),
    click.option(
        "--schedule",
        cls=_Rule,
        default="",
        metavar="WHEN",
        help="An interval such as 10m, times of day such as 02:00,14:30, or live; else only when you run it.",
    ),
    click.option(
        "--bandwidth", cls=_Rule, default="", metavar="RATE", help="50MiB/s, or for parts of the day: 09:00-18:00=50MiB/s,…"
    ),
    click.option(
        "--transfers", cls=_Rule, type=int, default=DEFAULT_TRANSFERS, show_default=True, help="Objects under way at once."
    ),
    click.option(
        "--checksum", cls=_Rule, is_flag=True, help="Read both sides where ETags cannot be compared, instead of copying."
    ),
    click.option(
        "--max-delete",
        cls=_Rule,
        type=int,
        default=DEFAULT_MAX_DELETE,
        show_default=True,
        metavar="PERCENT",
        help="Remove at most this share of a side's objects in one run, unless it is forced.",
    ),
)


def rule_options(command: _F) -> _F:
    """All of them, for a command that calls `spec_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def spec_of(name: str, a: str, b: str) -> SyncSpec:
    """A sync by the rules of the command that is being carried out."""
    rules: dict[str, object] = click.get_current_context().meta[_FOUND]
    return msgspec.convert({"name": name, "a": a, "b": b, **rules}, SyncSpec)
