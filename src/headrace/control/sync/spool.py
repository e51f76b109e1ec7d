"""Steps that are done last, kept on disk: however many there are, they take no memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from headrace.control.sync.steps import Step


class Spool:
    """Append, then read in order. The file has no name, so that nothing of it stays after a crash."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by `close`
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Step)

    def append(self, step: Step) -> None:
        self._file.write(self._encoder.encode(step) + b"\n")

    def __iter__(self) -> Iterator[Step]:
        self._file.seek(0)
        for line in self._file:
            yield self._decoder.decode(line)

    def close(self) -> None:
        self._file.close()
