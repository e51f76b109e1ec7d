"""The examples in the documentation run, against a real node over a real directory."""

from __future__ import annotations

import datetime
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import OWN_PAGES, TURNS, meant, of_day
from support.engines import PAGES as GROUPS
from support.fuse_mount import require_fuse
from support.howto import PAGES, blocks_of, lines_of, run_lines, sales_node
from support.node import RunningNode

ROOT = Path(__file__).parent.parent
PYTHON_PAGES = sorted(page for page in PAGES.glob("*.md") if lines_of(page, "python") and page.stem not in OWN_PAGES)
SHELL_PAGES = sorted(page for page in PAGES.glob("*.md") if lines_of(page, "bash") and page.stem not in OWN_PAGES)


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with sales_node(tmp_path_factory.mktemp("sales")) as node:
        yield node


@pytest.mark.servers
@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.stem)
def test_the_lines_of_a_how_to_page_do_what_they_say(page: Path, sales: RunningNode, tmp_path: Path) -> None:
    lines = lines_of(page, "python")
    if page.stem == "directory":
        require_fuse()
    if page.stem == "duckdb":
        lines = "from duckdb_extensions import import_extension\nimport_extension('httpfs')\n" + lines
    run_lines([sys.executable, "-c", lines], sales, tmp_path)


@pytest.mark.servers
@pytest.mark.parametrize("page", SHELL_PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_how_to_page_do_what_they_say(page: Path, sales: RunningNode, tmp_path: Path) -> None:
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run_lines(["bash", "-euo", "pipefail", "-c", lines_of(page, "bash")], sales, tmp_path, PATH=tools, HOME=str(tmp_path))


@pytest.mark.servers
def test_the_commands_of_the_sync_page_print_what_it_shows(sales: RunningNode, tmp_path: Path) -> None:
    """Lines that begin with a dollar sign are run; each line below one is among what it prints."""
    blocks = "".join(blocks_of(PAGES / "sync.md", "console"))
    printed: list[str] = []
    for line in blocks.replace("/srv/archive", str(tmp_path)).splitlines():
        if line.startswith("$ headrace "):
            done = sales.cli(*shlex.split(line.removeprefix("$ headrace ")))
            printed = done.stdout.splitlines()
        else:
            assert line in printed, printed
    assert printed == ["shared is removed; the objects stay as they are"]


def test_every_engine_has_its_page_and_its_turn() -> None:
    assert {group for turn in TURNS for group in turn} == set(GROUPS)
    assert {of_day(datetime.date(2026, 1, 1) + datetime.timedelta(days=day)) for day in range(len(TURNS))} == set(TURNS)
    for group in GROUPS:
        assert (ROOT / "requirements" / "engines" / f"{group}.txt").exists(), group
    index = (PAGES / "engines.md").read_text()
    for page in OWN_PAGES:
        assert f"({page}.md)" in index, f"engines.md does not name {page}.md"


def test_a_group_that_there_is_not_is_refused() -> None:
    today = datetime.date(2026, 1, 1)
    assert meant(["all"], today) == tuple(GROUPS)
    assert meant(["spark", "ray"], today) == ("spark", "ray")
    with pytest.raises(ValueError, match="no group of engines is called"):
        meant(["sparc"], today)


def test_every_page_that_is_linked_exists() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_tests_that_the_semantics_page_names_exist() -> None:
    for name in re.findall(r"`((?:tests|stores)/[^`]*)`", (ROOT / "docs" / "SEMANTICS.md").read_text()):
        assert (ROOT / name).exists() or (ROOT / "src" / "headrace" / name).exists(), name
