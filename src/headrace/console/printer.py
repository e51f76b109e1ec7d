"""Output for people and for machines. Text from stores never reaches a terminal as control characters."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from headrace.control.node_view import MountStats

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def safe(text: str) -> str:
    """`text` with every control, invisible and direction-changing character written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if unicodedata.category(char) not in _HIDDEN else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def print_json(value: object) -> None:
    """One line of ASCII JSON: no key can hide an escape sequence in it."""
    click.echo(json.dumps(msgspec.to_builtins(value), ensure_ascii=True))


def say(text: str) -> None:
    """One line to standard output."""
    click.echo(safe(text))


def warn(text: str) -> None:
    """One line to standard error."""
    click.echo(safe(text), err=True)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
    """A table: drawn on a terminal, aligned columns elsewhere. `right` are columns of numbers."""
    lines = [[safe(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(head, lines, right)
        return
    widths = [max(len(row[i]) for row in [list(head), *lines]) for i in range(len(head))]
    for row in [list(head), *lines]:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def rich_table(head: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int]) -> Any:
    """A Rich table whose cells are plain text, never markup."""
    from rich import box  # noqa: PLC0415 - a pipe needs no Rich
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    return table


def _print_rich(head: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a pipe needs no Rich

    Console().print(rich_table(head, rows, right))


def show_time(seconds: float) -> str:
    """A moment in local time; a dash for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def show_health(mount: MountStats, now_s: float) -> str:
    """`healthy`, or the cause in words and how long ago it was seen."""
    if mount.healthy:
        return "healthy"
    if not mount.checked_s:
        return mount.error or "failing"
    age_s = max(0.0, now_s - mount.checked_s)
    return f"{mount.error or 'failing'} ({f'{age_s:.0f} s' if age_s < 120 else show_seconds(age_s)} ago)"


def show_seconds(seconds: float) -> str:
    """A span of time for people."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
