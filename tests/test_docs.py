"""The examples in the documentation run, against a real node over a real directory."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fuse_mount import require_fuse
from support.node import RunningNode, running_node

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for page in (ROOT / "docs" / "how-to").glob("*.md") if "```python" in page.read_text())


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path_factory.mktemp("corp-sales")
    (root / "2026").mkdir()
    for part in range(3):
        amounts = range(part * 1000, part * 1000 + 1000)
        pq.write_table(pa.table({"amount": list(amounts)}), root / "2026" / f"part-{part}.parquet")
    config = '[gateway.webhdfs]\ntrust_user_name_from = ["127.0.0.1"]\n\n'
    config += f'[[mount]]\npath = "/sales"\nstore = "file://{root}"\nwrite = "through"\n'
    with running_node(tmp_path_factory.mktemp("home"), config, processes=1) as node:
        yield node


@pytest.mark.servers
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_lines_of_a_how_to_page_do_what_they_say(page: Path, sales: RunningNode, tmp_path: Path) -> None:
    lines = "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    assert lines
    if page.stem == "directory":
        require_fuse()
    if page.stem == "duckdb":
        lines = "from duckdb_extensions import import_extension\nimport_extension('httpfs')\n" + lines
    environ = os.environ | {
        "HEADRACE_HOME": str(sales.home),
        "HEADRACE_CONFIG": str(sales.config),
        "HEADRACE_DATA": sales.data,
        "HEADRACE_ACCESS_KEY_ID": sales.key_id,
        "HEADRACE_SECRET_ACCESS_KEY": sales.secret,
    }
    done = subprocess.run([sys.executable, "-c", lines], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.servers
def test_the_commands_of_the_sync_page_print_what_it_shows(sales: RunningNode, tmp_path: Path) -> None:
    """Lines that begin with a dollar sign are run; each line below one is among what it prints."""
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / "docs" / "how-to" / "sync.md").read_text(), re.DOTALL | re.MULTILINE)
    printed: list[str] = []
    for line in "".join(blocks).replace("/srv/archive", str(tmp_path)).splitlines():
        if line.startswith("$ headrace "):
            done = sales.cli(*shlex.split(line.removeprefix("$ headrace ")))
            printed = done.stdout.splitlines()
        else:
            assert line in printed, printed
    assert printed == ["shared is removed; the objects stay as they are"]


def test_every_page_that_is_linked_exists() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_tests_that_the_semantics_page_names_exist() -> None:
    for name in re.findall(r"`((?:tests|stores)/[^`]*)`", (ROOT / "docs" / "SEMANTICS.md").read_text()):
        assert (ROOT / name).exists() or (ROOT / "src" / "headrace" / name).exists(), name
