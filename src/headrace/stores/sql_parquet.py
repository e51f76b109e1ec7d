"""Rows written as Parquet: the same rows make the same bytes, and memory holds one row group."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import weakref
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from headrace.model.errors import NoSpace, SettingsError, Unsupported
from headrace.stores.sql_source import Column, Rows

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP_ROWS = 32_768
_GROUP_BYTES = 16 << 20
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")


class Made:
    """A finished file in memory or, without a name, on disk; gone with the last reference. `token` is its bytes' digest."""

    def __init__(self, file: IO[bytes], *, size: int, token: str) -> None:
        self._file = file
        self.size = size
        self.token = token
        weakref.finalize(self, file.close)

    def piece(self, start: int, length: int) -> bytes:
        """Bytes of it. May be called from any thread."""
        if isinstance(self._file, io.BytesIO):
            return bytes(self._file.getbuffer()[start : start + length])
        return os.pread(self._file.fileno(), length, start)


class _Sink(io.RawIOBase):
    """Where Parquet is written to, counted and digested on the way."""

    def __init__(self, file: IO[bytes], limit_bytes: int, key: str) -> None:
        self._file = file
        self._limit_bytes = limit_bytes
        self._key = key
        self.digest = hashlib.blake2b(digest_size=16)
        self.length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.length

    def write(self, data: bytes) -> int:  # type: ignore[override]  # what pyarrow hands over
        self.length += len(data)
        if self.length > self._limit_bytes:
            raise NoSpace(f"{self._key!r} is larger than {self._limit_bytes} bytes: raise spool on the mount", path=self._key)
        self.digest.update(data)
        self._file.write(data)
        return len(data)


def make_parquet(key: str, rows: Rows, *, limit_bytes: int, on_disk: bool) -> Made:
    """All rows as a Parquet file. Raises `NoSpace` past the limit, and `Unsupported` for a value that a column cannot hold."""
    import pyarrow as pa  # noqa: PLC0415  an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    file: IO[bytes] = tempfile.TemporaryFile() if on_disk else io.BytesIO()  # noqa: SIM115  kept by what is returned
    try:
        sink = _Sink(file, limit_bytes, key)
        schema = pa.schema([pa.field(column.name, _type(column.kind)) for column in rows.columns])
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            group: list[tuple[object, ...]] = []
            held = 0
            for batch in rows.batches:
                group += batch
                held += sum(len(value) for row in batch for value in row if isinstance(value, (str, bytes)))
                if len(group) >= _GROUP_ROWS or held >= _GROUP_BYTES:
                    writer.write_batch(_record_batch(key, rows.columns, schema, group))
                    group, held = [], 0
            if group:
                writer.write_batch(_record_batch(key, rows.columns, schema, group))
        file.flush()
    except BaseException as error:  # whatever it is: the file goes, the error is raised on
        file.close()
        if isinstance(error, OSError) and error.errno is not None:
            raise NoSpace(f"{key!r} cannot be spooled in {tempfile.gettempdir()}: {error.strerror}", path=key) from error
        raise
    return Made(file, size=sink.length, token=sink.digest.hexdigest())


def _record_batch(key: str, columns: Sequence[Column], schema: pa.Schema, group: list[tuple[object, ...]]) -> pa.RecordBatch:
    import pyarrow as pa  # noqa: PLC0415  an extra

    arrays = []
    for place, column in enumerate(columns):
        try:
            arrays.append(pa.array([row[place] for row in group], type=schema.field(place).type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            line = str(error).partition("\n")[0]
            message = f"{key!r}: column {column.name!r} holds what {column.kind} cannot ({line}): convert it in a named query"
            raise Unsupported(message, path=key) from error
    return pa.record_batch(arrays, schema=schema)


def _type(kind: str) -> pa.DataType:
    import pyarrow as pa  # noqa: PLC0415  an extra

    if match := _DECIMAL.fullmatch(kind):
        return pa.decimal128(int(match[1]), int(match[2]))
    if kind == "timestamp[us, tz=UTC]":
        return pa.timestamp("us", tz="UTC")
    return pa.type_for_alias(kind)


def require_pyarrow() -> None:
    """Raises `SettingsError` that says what to install."""
    try:
        import pyarrow  # noqa: F401, PLC0415  an extra
    except ImportError as error:
        raise SettingsError("sql:// needs a package that is not installed: pip install 'headrace[sql]'") from error
