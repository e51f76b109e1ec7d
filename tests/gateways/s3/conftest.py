"""A writable gateway over each kind of store that is all our own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.gateway import RunningGateway
from support.writing import KINDS, account_gateway, s3_client


@pytest.fixture(scope="module", params=KINDS)
def account(request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    """With an account mount at `/`; shared by a module's tests, which use keys of their own."""
    with account_gateway(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def s3(account: RunningGateway) -> Iterator[Any]:
    client = s3_client(account)
    yield client
    client.close()
