"""The lines of each engine's how-to page, run by that engine's own environment against a real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import PAGES as GROUPS
from support.engines import chosen, python_of, s3a_jars
from support.howto import PAGES, blocks_of, lines_of, run_lines, sales_node
from support.node import RunningNode

pytestmark = [pytest.mark.engines, pytest.mark.servers, pytest.mark.slow]

CHOSEN = [(group, page) for group in chosen() for page in GROUPS[group]]


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with sales_node(tmp_path_factory.mktemp("sales")) as node:
        yield node


@pytest.mark.parametrize(("group", "page"), CHOSEN, ids=[page for _, page in CHOSEN])
def test_the_lines_do_what_they_say(group: str, page: str, sales: RunningNode, tmp_path: Path) -> None:
    if page == "jupyter":
        cells = json.dumps(blocks_of(PAGES / "jupyter.md", "python"))
        command = [python_of(group), str(Path(__file__).with_name("notebook.py")), cells]
    else:
        lines = tmp_path / "lines.py"
        lines.write_text(lines_of(PAGES / f"{page}.md", "python"))
        command = [python_of(group), str(lines)]
    run_lines(command, sales, tmp_path, HOME=str(tmp_path), S3A_JARS=s3a_jars())
    if page == "spark":
        told = json.loads(sales.cli("cat", "/sales/derived/magic/_SUCCESS").stdout)
        assert told["committer"] == "magic", told
        assert told["filenames"], told
