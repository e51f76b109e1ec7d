"""`headrace settings`: every key with its default and meaning, taken from the settings' own definitions."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from enum import StrEnum
from typing import Any

import click
import msgspec

from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, say


class Key(msgspec.Struct, frozen=True):
    """One key: its table as written in the file, its default (None: it must be given), its meaning."""

    table: str
    name: str
    kind: str
    default: object
    meaning: str


@click.command()
@config_option
@json_option
@pass_invocation
def settings(invocation: Invocation) -> None:
    """Document every key of headrace.toml, with its default."""
    keys = document()
    if invocation.as_json:
        print_json(keys)
        return
    table = None
    for key in keys:
        if key.table != table:
            table = key.table
            say("")
            say(table)
        value = "# must be given" if key.default is None else toml_value(key.default)
        say(f"{key.name} = {value}" if key.default is not None else f"{key.name} =    {value}")
        for line in textwrap.wrap(key.meaning, 110):
            say(f"    # {line}")


def document() -> tuple[Key, ...]:
    """All keys, table by table."""
    from headrace.settings import Settings  # noqa: PLC0415 - the help needs no settings

    return tuple(_walk(Settings, ""))


def _walk(kind: Any, path: str) -> list[Key]:
    plain: list[Key] = []
    below: list[Key] = []
    meanings = field_docs(kind)
    table = f"[{path}]" if path and not path.startswith("[") else path
    for field in msgspec.structs.fields(kind):
        if path == "" and field.name == "source":
            continue
        inner, repeated = _struct_below(field.type)
        if inner is kind:
            meaning = meanings.get(field.name, "")
            plain.append(Key(table, field.name, "list of tables", [], meaning))
        elif inner is not None:
            name = f"{path.strip('[]')}.{field.name}" if path else field.name
            below += _walk(inner, f"[[{name}]]" if repeated else name)
        else:
            plain.append(Key(table, field.name, _kind(field.type), _default(field), meanings.get(field.name, "")))
    return plain + below


def field_docs(kind: type) -> dict[str, str]:
    """The docstrings that stand below the fields of a struct."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    found: dict[str, str] = {}
    name = ""
    for node in tree.body if isinstance(tree, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found[name] = " ".join(node.value.value.split())
            name = ""
        else:
            name = ""
    return found


def _struct_below(kind: Any) -> tuple[Any, bool]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind, False
    for inner in getattr(kind, "__args__", ()):
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return inner, True
    return None, False


def _default(field: Any) -> object:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return None
    return msgspec.to_builtins(value)


def _kind(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " | ".join(member.value for member in kind)
    name = getattr(kind, "__name__", str(kind)) if not hasattr(kind, "__args__") else str(kind)
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(name, "list")


def toml_value(value: object) -> str:
    """A default as it would be written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml_value(item)}" for name, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
