"""The error tree, as processes name its classes to each other."""

from __future__ import annotations

import pytest

from headrace.model.errors import HeadraceError, NotFound, error_named


def test_a_class_of_the_tree_is_found_by_its_name() -> None:
    assert error_named("NotFound") is NotFound
    assert error_named("HeadraceError") is HeadraceError


@pytest.mark.parametrize("name", ["", "ValueError", "error_named", "annotations", "__name__", "SystemExit"])
def test_nothing_else_is(name: str) -> None:
    assert error_named(name) is None
