"""What lies under a home that no mount speaks of any more: journals with writes in them, and scratch."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from headrace.model.disk import SystemDisk
from headrace.model.errors import HeadraceError, NotFound, SettingsError
from headrace.model.mounts import MountSpec
from headrace.model.units import format_size
from headrace.scratch.room import used_of
from headrace.staging.journal import MOUNT_FILE, PLACE_FILE, Journal
from headrace.wiring import Journals, Scratch


class Leftover(msgspec.Struct, frozen=True):
    """`name` names it for `headrace leftovers --drop`; `remedy` says what else can be done."""

    name: str
    kind: str
    mount: str
    store: str
    writes: int
    bytes: int
    remedy: str

    def words(self) -> str:
        """One line for a person."""
        of = f"of {self.mount} ({self.store}), which is mounted so no more"
        what = f"{self.writes} writes" if self.kind == "journal" else "scratch"
        return f"{what} {of}: {format_size(self.bytes)}; {self.remedy}"


def find_leftovers(journals: Journals, scratch: Scratch, specs: Iterable[MountSpec]) -> tuple[Leftover, ...]:
    """Blocks: journals are read. Those without a write in them are nothing that is left."""
    specs = tuple(specs)
    known = {Path(journals.of(spec.path)) for spec in specs}
    found = [_journal(path) for path in _folders(journals.root) if path not in known]
    found += [_scratch(path) for path in _folders(scratch.root) if path not in scratch.of_mounts(specs)]
    return tuple([left for left in found if left is not None])


def drop(journals: Journals, scratch: Scratch, specs: Iterable[MountSpec], name: str) -> Leftover:
    """Remove what is left for good. Raises `NotFound`, `SettingsError`."""
    found = next((left for left in find_leftovers(journals, scratch, specs) if left.name == name), None)
    if found is None:
        raise NotFound(f"there is no leftover {name!r}: see `headrace leftovers`", path=name)
    root = journals.root if found.kind == "journal" else scratch.root
    try:
        shutil.rmtree(root / name)
    except OSError as error:
        raise SettingsError(f"{root / name} cannot be removed ({error.strerror})", path=name) from error
    return found


def _journal(path: Path) -> Leftover | None:
    mount, place = _text(path / MOUNT_FILE) or "a mount", _text(path / PLACE_FILE)
    store = place.split("\n")[-1].rstrip("/") or "its store"
    again = f'mount {mount} again as it was, with write = "back", and the store gets them; or let them go: '
    remedy = f"{again}`headrace leftovers --drop {path.name}`"
    try:
        journal = Journal(str(path), SystemDisk())
    except HeadraceError as error:
        return Leftover(path.name, "journal", mount, store, 0, 0, f"it cannot be read: {error}")
    try:
        writes, size = len(journal.backlog), journal.backlog.bytes
    finally:
        journal.close()
    return Leftover(path.name, "journal", mount, store, writes, size, remedy) if writes else None


def _scratch(path: Path) -> Leftover | None:
    mount, _, store = _text(path / PLACE_FILE).partition("\n")
    remedy = f'mount it again as it was, with write = "scratch", or let it go: `headrace leftovers --drop {path.name}`'
    size = used_of(path)
    return Leftover(path.name, "scratch", mount or "a mount", store or "its store", 0, size, remedy) if size else None


def _folders(root: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in root.iterdir() if path.is_dir())
    return []


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""
