"""A rig of one serving process, shared by the tests of a file; each test uses keys of its own."""

from __future__ import annotations

import pytest


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[-60:]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each of these breaks a whole node of its own: they run in `make test-all`."""
    here = __file__.rpartition("/")[0]
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.slow)
