"""Options that many subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from headrace.settings import Settings


class HintedGroup(click.Group):
    """A group that names the nearest subcommand when one is misspelt."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # noqa: PLC0415 - only a slip needs it

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near or "did you mean" in error.format_message().lower():
                raise
            raise click.UsageError(f"{error.format_message().rstrip('.')}; did you mean {near[0]!r}?", ctx) from error


_F = TypeVar("_F", bound=Callable[..., Any])


class Invocation:
    """What was said on the command line, wherever it stood."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.as_json = False

    def settings(self) -> Settings:
        """The settings that this invocation means. Raises `SettingsError`."""
        import os  # noqa: PLC0415 - `headrace --help` must not wait for what only a subcommand needs

        from headrace.settings import load_settings  # noqa: PLC0415

        return load_settings(self.config, os.environ)


def _set_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).config = value


def _set_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).as_json = True


def config_option(function: _F) -> _F:
    """`--config`, accepted before and after the subcommand."""
    return click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_set_config,
        help="Settings file; else $HEADRACE_CONFIG, else headrace.toml here.",
    )(function)


def json_option(function: _F) -> _F:
    """`--json`: print for machines."""
    return click.option("--json", is_flag=True, expose_value=False, callback=_set_json, help="Print JSON.")(function)


pass_invocation = click.make_pass_decorator(Invocation)
