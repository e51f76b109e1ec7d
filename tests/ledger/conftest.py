from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path, SystemClock())
    yield opened
    opened.close()
