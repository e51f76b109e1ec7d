from collections.abc import Iterator
from pathlib import Path

import pytest

from support.console import ServedConsole, served_console
from support.fake_node import FakeNode


@pytest.fixture
def console(tmp_path: Path) -> Iterator[ServedConsole]:
    node = FakeNode({f"/sales/{number:03}": 10 for number in range(20)})
    with served_console(tmp_path, node) as served:
        yield served
