"""Types of columns: values of the code on one side, plain SQL on the other."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Integer, Table, Text, TextClause, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

T = TypeVar("T", bound=msgspec.Struct)
W = TypeVar("W", bound=StrEnum)


class AsJson(TypeDecorator[T], Generic[T]):
    """A frozen value, as JSON in a TEXT column. Reading what is no such value raises `msgspec.ValidationError`."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[T]) -> None:
        super().__init__()
        self.kind = kind
        self._decoder = msgspec.json.Decoder(kind)

    def process_bind_param(self, value: T | None, _dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, _dialect: Dialect) -> T | None:
        return None if value is None else self._decoder.decode(value)


class AsWord(TypeDecorator[W], Generic[W]):
    """One of a few words, in a TEXT column."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[W]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: W | None, _dialect: Dialect) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: Any, _dialect: Dialect) -> W | None:
        return None if value is None else self.kind(value)


class AsFlag(TypeDecorator[bool]):
    """Yes or no, in an INTEGER column."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: bool | None, _dialect: Dialect) -> int | None:
        return None if value is None else int(value)

    def process_result_value(self, value: Any, _dialect: Dialect) -> bool | None:
        return None if value is None else bool(value)


def put_row(table: Table) -> TextClause:
    """A row with all of the table's columns, in the place of the one that has its key: to be executed with many at once."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]
    changed = ", ".join([f"{name} = excluded.{name}" for name in names if name not in keys])
    # The names are those of our own tables.
    into = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join([f':{name}' for name in names])})"  # noqa: S608
    return text(f"{into} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changed}")
