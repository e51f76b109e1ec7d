"""Logs of a node: one bounded file, and warnings on standard error."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

_FILE_BYTES = 8 << 20
_FILES_KEPT = 4
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _OneLine(logging.Formatter):
    """A record is one line: text that comes from outside cannot forge another."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "".join(ch if ch.isprintable() or ch == "\t" else ("\n  " if ch == "\n" else f"\\x{ord(ch):02x}") for ch in text)


def log_to(path: Path | None) -> None:
    """Send the records of this process to `path` (rotated, bounded) and warnings to standard error."""
    root = logging.getLogger("headrace")
    root.setLevel(logging.INFO)
    root.propagate = False
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.WARNING)
    shown.setFormatter(_OneLine("headrace: %(message)s"))
    handlers: list[logging.Handler] = [shown]
    if path is not None:
        kept = logging.handlers.RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT)
        kept.setFormatter(_OneLine(_FORMAT))
        handlers.append(kept)
    for old in root.handlers[:]:
        root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
