from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.control.plane import ControlPlane
from headrace.control.settings import ControlSettings, KeySpec
from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec

ENVIRON = {"ANALYST": "tr0ub4dor-and-3-horses"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path, SystemClock())
    yield opened
    opened.close()


@pytest.fixture
def plane(ledger: Ledger, tmp_path: Path) -> ControlPlane:
    settings = ControlSettings(
        home=tmp_path, mounts=(MountSpec("/fixed", "s3://fixed"),), keys=(KeySpec("analyst", "env:ANALYST"),)
    )
    return ControlPlane(ledger, settings, SystemClock(), environ=ENVIRON)
