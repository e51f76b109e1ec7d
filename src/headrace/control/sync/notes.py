"""Uploads under way, written down for as long as they last, so that one that a crash broke off is gone on with."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from headrace.model.uploads import Upload


class Note(msgspec.Struct, frozen=True):
    """An upload, and the version whose bytes its parts are."""

    upload: Upload
    version: str


class Notes:
    """One small file for each upload. A note that cannot be written or read costs that upload's parts, nothing else."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, path: str) -> Note | None:
        """What was begun for the object at `path`."""
        try:
            return msgspec.json.decode(self._file(path).read_bytes(), type=Note)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, path: str, note: Note) -> None:
        file = self._file(path)
        aside = file.with_suffix(f".{os.getpid()}.new")
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_bytes(msgspec.json.encode(note))
            aside.replace(file)

    def drop(self, path: str) -> None:
        with suppress(OSError):
            self._file(path).unlink(missing_ok=True)

    def _file(self, path: str) -> Path:
        return self._directory / f"{hashlib.blake2b(path.encode(), digest_size=12).hexdigest()}.json"
