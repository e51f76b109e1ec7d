"""`headrace bench`: runs the measurements of a source checkout and writes them to docs/PERFORMANCE.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, say
from headrace.model.errors import SettingsError

MEASUREMENTS = (
    "warm_reads",
    "cold_reads",
    "fsspec_reads",
    "tpch",
    "torch_loader",
    "writes",
    "writes_shared",
    "fuse",
    "webhdfs",
    "hdfs_cold",
    "sync_job",
    "listing",
    "sync_listing",
    "staleness",
    "startup_memory",
    "million_pages",
    "eviction_traces",
)
BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"
_RESULT = re.compile(r"<!-- (\w+) -->\s*(.*?)(?=<!-- |\Z)", re.DOTALL)
_HEAD = "# Performance\n\nWritten by `headrace bench`: ratios of one run, medians of its rounds, with the conditions of each.\n"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Show what can be measured.")
@config_option
@json_option
@pass_invocation
def bench(invocation: Invocation, names: tuple[str, ...], only_list: bool) -> int:
    """Measure Headrace beside its peers.

    NAMES are measurements; without any, all run, one after the other. Needs a source checkout.
    """
    root = find_checkout(Path.cwd(), Path(__file__).resolve().parents[3])
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        raise click.UsageError(f"no measurement is called {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}")
    if only_list:
        _show(root, invocation.as_json)
        return 0
    chosen = names or MEASUREMENTS
    failed = [name for name in chosen if _measure(root, name)]
    measured = [name for name in chosen if name not in failed]
    page = root / "docs" / "PERFORMANCE.md"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(with_results(old, read_results(root, measured)), encoding="utf-8")
    if invocation.as_json:
        print_json({"measured": measured, "failed": failed, "page": str(page)})
    else:
        say(f"written to {page}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def find_checkout(*roots: Path) -> Path:
    """The first of `roots` that holds the measurements. Raises `SettingsError` outside a checkout."""
    for root in roots:
        if (root / "benchmarks" / f"{MEASUREMENTS[0]}.py").is_file():
            return root
    raise SettingsError("the measurements are not part of the installed package: run this in a source checkout")


def read_results(root: Path, names: Sequence[str]) -> dict[str, str]:
    """What the measurements left behind, by name."""
    files = {name: root / "benchmarks" / "results" / f"{name}.md" for name in names}
    return {name: file.read_text(encoding="utf-8").strip() for name, file in files.items() if file.exists()}


def with_results(page: str, results: Mapping[str, str]) -> str:
    """`page` with these results in place of older ones of the same names; what it has of others stays.

    All lie between its two marks, which are put at its end where it has none, each behind a mark of its own.
    """
    head, begin, rest = page.partition(BEGIN)
    body, end, tail = rest.partition(END)
    marked = bool(begin and end)
    known = dict(_RESULT.findall(body)) if marked else {}
    kept = {**known, **results}
    parts = [f"<!-- {name} -->\n\n{kept[name].strip()}" for name in MEASUREMENTS if name in kept]
    measured = "\n\n".join([BEGIN, *parts, END])
    if marked:
        return head + measured + tail
    return (page or _HEAD).rstrip() + f"\n\n{measured}\n"


def _measure(root: Path, name: str) -> int:
    script = root / "benchmarks" / f"{name}.py"
    return subprocess.run([sys.executable, str(script)], cwd=root, check=False).returncode  # noqa: S603 - our own script


def _show(root: Path, as_json: bool) -> None:
    if as_json:
        print_json(MEASUREMENTS)
        return
    for name in MEASUREMENTS:
        first = (root / "benchmarks" / f"{name}.py").read_text(encoding="utf-8").partition("\n")[0]
        say(f"{name:<18} {first.strip().strip(chr(34))}")
