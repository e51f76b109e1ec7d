"""No value that carries a secret shows it when it is printed or logged."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import msgspec
import pytest

import headrace

PYTORCH = "headrace.torch"
SECRETS = {
    "secret",
    "secret_access_key",
    "session_token",
    "access_token",
    "private_key",
    "client_secret",
    "refresh_token",
    "password",
}


def shown_fields(kind: type) -> set[str]:
    """The fields that the generated repr of a value would show."""
    if dataclasses.is_dataclass(kind):
        return {field.name for field in dataclasses.fields(kind) if field.repr}
    if issubclass(kind, msgspec.Struct) and "__repr__" not in vars(kind):
        return set(kind.__struct_fields__)
    return set()


def _needs_pytorch(name: str) -> None:
    """It is too large to be had wherever the fast tests run."""
    assert name == PYTORCH, f"{name} cannot be imported"


def values() -> list[type]:
    found = pkgutil.walk_packages(headrace.__path__, "headrace.", onerror=_needs_pytorch)
    names = [each.name for each in found if "__main__" not in each.name and each.name != PYTORCH]
    modules = [importlib.import_module(name) for name in names]
    return [
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
    ]


def test_every_value_with_a_secret_in_it_prints_itself_without() -> None:
    leaking = {f"{kind.__module__}.{kind.__name__}": sorted(shown_fields(kind) & SECRETS) for kind in values()}
    assert {name: fields for name, fields in leaking.items() if fields} == {}


def test_the_check_sees_what_leaks() -> None:
    class Leaks(msgspec.Struct):
        secret: str

    @dataclasses.dataclass
    class LeaksToo:
        password: str

    assert shown_fields(Leaks) == {"secret"}
    assert shown_fields(LeaksToo) == {"password"}
    assert "hunter2" in repr(Leaks("hunter2"))


@pytest.mark.parametrize("module", ["headrace.control.settings", "headrace.session"])
def test_values_that_people_write_secrets_into_are_printed_without(module: str) -> None:
    found = importlib.import_module(module)
    value = found.KeySpec("anna", "hunter2") if module.endswith("settings") else found.SessionOptions(secret="hunter2")
    assert "hunter2" not in repr(value)
    assert "hunter2" not in str([value])
