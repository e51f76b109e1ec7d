"""`headrace bench`: runs the measurements of a source checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, say
from headrace.model.errors import SettingsError

_PREFIX = "bench_"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("names", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Show what can be measured.")
@config_option
@json_option
@pass_invocation
def bench(invocation: Invocation, names: tuple[str, ...], only_list: bool) -> int:
    """Measure Headrace beside its peers.

    NAMES are measurements; without any, all run, one after the other. Needs a source checkout.
    """
    scripts = find_scripts(Path.cwd(), Path(__file__).resolve().parents[3])
    if only_list:
        if invocation.as_json:
            print_json(list(scripts))
        else:
            for name, script in scripts.items():
                say(f"{name:<20} {_first_line(script)}")
        return 0
    unknown = [name for name in names if name not in scripts]
    if unknown:
        raise click.UsageError(f"no measurement is called {', '.join(unknown)}; there are: {', '.join(scripts)}")
    failed = [name for name in names or scripts if subprocess.run([sys.executable, scripts[name]], check=False).returncode]  # noqa: S603 - our own scripts
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def find_scripts(*roots: Path) -> dict[str, Path]:
    """Measurements by name. Raises `SettingsError` outside a checkout."""
    for root in roots:
        found = sorted((root / "benchmarks").glob(f"{_PREFIX}*.py"))
        if found:
            return {script.stem.removeprefix(_PREFIX): script for script in found}
    raise SettingsError("the measurements are not part of the installed package: run this in a source checkout")


def _first_line(script: Path) -> str:
    line = script.read_text(encoding="utf-8").partition("\n")[0]
    return line.strip().strip('"')
