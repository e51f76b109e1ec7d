"""`headrace.torch` with PyTorch's own loader and its workers, in the environment of the group `torch`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import chosen, python_of
from support.howto import run_lines
from support.node import RunningNode, running_node

SCRIPT = Path(__file__).with_name("torch_checks.py")
COUNT, BYTES = 103, 3000

pytestmark = [pytest.mark.engines, pytest.mark.servers, pytest.mark.slow]


def checks() -> list[str]:
    """The functions that the script's table names when it is this group's turn. It is not imported, as PyTorch is not here."""
    if "torch" not in chosen():
        return []
    tables = [node for node in ast.parse(SCRIPT.read_text()).body if isinstance(node, ast.AnnAssign)]
    (table,) = [node for node in tables if isinstance(node.target, ast.Name) and node.target.id == "CHECKS"]
    names = [name.id for name in ast.walk(table) if isinstance(name, ast.Name)]
    functions = {node.name for node in ast.parse(SCRIPT.read_text()).body if isinstance(node, ast.FunctionDef)}
    return [name for name in names if name in functions]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    store = tmp_path_factory.mktemp("store")
    (store / "set").mkdir()
    for number in range(COUNT):
        (store / "set" / f"{number:05d}").write_bytes(number.to_bytes(8, "big") + bytes([number]) * (BYTES - 8))
    config = f'[[mount]]\npath = "/d"\nstore = "file://{store}"\nfreshness = "1h"\n'
    with running_node(tmp_path_factory.mktemp("home"), config, processes=1) as running:
        yield running


@pytest.mark.parametrize("check", checks())
def test_with_pytorch(check: str, node: RunningNode, tmp_path: Path) -> None:
    run_lines([python_of("torch"), str(SCRIPT), check], node, tmp_path, SET="/d/set", SCRATCH=str(tmp_path))
