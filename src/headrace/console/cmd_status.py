"""`headrace status` and `headrace top`."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

import click

from headrace.console.client import AdminClient, need_server
from headrace.console.node_tables import tables
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, rich_table, say, show_seconds, warn
from headrace.control.node_view import NodeStats
from headrace.model.units import format_size


def _server(invocation: Invocation) -> AdminClient:
    settings = invocation.settings()
    return need_server(settings.home, settings.server.control_listen)


@click.command()
@config_option
@json_option
@pass_invocation
def status(invocation: Invocation) -> None:
    """Show how the node fares, and where its page is."""
    server = _server(invocation)
    stats = server.stats()
    if invocation.as_json:
        print_json(stats)
        return
    say(f"serves S3 at {stats.data_url}, up {show_seconds(stats.uptime_s)}; status page: {server.login_link}")
    say(_totals(stats))
    for note in stats.notes:
        warn(note)
    for table in tables(stats):
        say("")
        print_table(table.head, table.rows, right=table.right)


@click.command()
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--count", type=click.IntRange(1), default=None, metavar="N", help="End after N looks.")
@config_option
@json_option
@pass_invocation
def top(invocation: Invocation, interval: float, count: int | None) -> None:
    """Watch the node live."""
    server = _server(invocation)
    # Ctrl-C is how one leaves it, not a failure.
    with suppress(KeyboardInterrupt):
        if invocation.as_json or not sys.stdout.isatty():
            _top_lines(server, interval, count, as_json=invocation.as_json)
        else:
            _top_screen(server, interval, count)


def _top_screen(server: AdminClient, interval: float, count: int | None) -> None:
    from rich.live import Live  # noqa: PLC0415 - a pipe needs no Rich

    before = server.stats()
    with Live(_frame(before, before), screen=True, auto_refresh=False) as live:
        looks = 1
        while count is None or looks < count:
            time.sleep(interval)
            now = server.stats()
            live.update(_frame(before, now), refresh=True)
            before = now
            looks += 1


def _top_lines(server: AdminClient, interval: float, count: int | None, *, as_json: bool) -> None:
    before = server.stats()
    looks = 0
    while True:
        now = server.stats() if looks else before
        if as_json:
            print_json(now)
        else:
            say(f"{_totals(now)}; {_rates(before, now)}")
        sys.stdout.flush()
        before = now
        looks += 1
        if count is not None and looks >= count:
            return
        time.sleep(interval)


def _frame(before: NodeStats, now: NodeStats) -> Any:
    from rich.console import Group  # noqa: PLC0415 - a pipe needs no Rich
    from rich.text import Text  # noqa: PLC0415

    drawn = [rich_table(table.head, table.rows, table.right) for table in tables(now)]
    head = f"Headrace {now.data_url}  up {show_seconds(now.uptime_s)}  {_rates(before, now)}"
    return Group(Text(head, style="bold"), Text(_totals(now)), *drawn)


def _totals(stats: NodeStats) -> str:
    counters = stats.counters
    return (
        f"{counters.requests} requests, hit ratio {100 * counters.hit_ratio:.1f} %, "
        f"saved at the stores: {format_size(counters.bytes_from_cache)} and {counters.hits + counters.stale} reads"
    )


def _rates(before: NodeStats, now: NodeStats) -> str:
    seconds = now.uptime_s - before.uptime_s
    if seconds <= 0:
        return "measuring"
    served = max(0, now.counters.bytes_served - before.counters.bytes_served) / seconds
    fetched = max(0, now.counters.store_bytes - before.counters.store_bytes) / seconds
    requests = max(0, now.counters.requests - before.counters.requests) / seconds
    return f"{requests:.0f} requests/s, {format_size(served)}/s served, {format_size(fetched)}/s from stores"
