"""Mounts, keys, rules and pins: what the settings say and what was changed since."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from headrace.control.kafka import resolve_source
from headrace.control.keys import owner_key, resolve_keys
from headrace.control.mount_rules import check_mount
from headrace.control.settings import ControlSettings
from headrace.control.state import KeyRecord, NodeState
from headrace.ledger.ledger import Ledger
from headrace.ledger.secrets import private_text
from headrace.model.clock import Clock
from headrace.model.errors import NotFound, SettingsError, VersionChanged
from headrace.model.mounts import MountSpec

_log = logging.getLogger(__name__)


class MountEntry(msgspec.Struct, frozen=True):
    """A mount and where it is written: `settings` (read-only) or `ledger`."""

    spec: MountSpec
    origin: str


class ControlPlane:
    """The rules of change over settings and ledger. Knows nothing of processes.

    Making one checks every secret and mount of the settings and raises `SettingsError` for a wrong one, so
    a node never starts half-configured. Calls that change something block for a disk write.
    """

    def __init__(
        self, ledger: Ledger, settings: ControlSettings, clock: Clock, *, environ: Mapping[str, str] | None = None
    ) -> None:
        self.ledger = ledger
        self.settings = settings
        self.clock = clock
        environ = os.environ if environ is None else environ
        self._keys = resolve_keys(settings.keys, environ)
        self.sources = tuple(resolve_source(one, home=settings.home, environ=environ, clock=clock) for one in settings.kafka)
        seen: list[str] = []
        for spec in settings.mounts:
            check_mount(spec, seen)
            seen.append(spec.path)

    def owner(self) -> KeyRecord:
        """The key of whoever owns this home."""
        return owner_key(self.settings.home)

    def admin_token(self) -> str:
        """What the control port asks for; made at first use, readable only by the owner."""
        return private_text(admin_token_file(self.settings.home), lambda: secrets.token_urlsafe(32)).strip()

    def events_token(self) -> str:
        """What stores are given that tell of changes: good for nothing else. Made at first use, readable only by the owner."""
        return private_text(self.settings.home / "run" / "events.token", lambda: secrets.token_urlsafe(32)).strip()

    def keys(self) -> tuple[KeyRecord, ...]:
        """All keys that callers may use. The settings' win over the ledger's."""
        records = {stored.id: KeyRecord(stored.id, stored.secret) for stored in self.ledger.keys.all()}
        records |= {record.id: record for record in (self.owner(), *self._keys)}
        return tuple(records.values())

    def mounts(self) -> tuple[MountEntry, ...]:
        """All mounts in force, by path. The settings' win over the ledger's."""
        entries = {spec.path: MountEntry(spec, "ledger") for spec in self.ledger.state.mounts()}
        for spec in self.settings.mounts:
            if spec.path in entries:
                _log.warning("mount %s: the settings hide the one that was added; `headrace mount rm` forgets it", spec.path)
            entries[spec.path] = MountEntry(spec, "settings")
        return tuple(entries[path] for path in sorted(entries))

    def mount(self, path: str) -> MountEntry:
        """The mount at exactly `path`. Raises `NotFound`."""
        for entry in self.mounts():
            if entry.spec.path == path:
                return entry
        known = ", ".join(entry.spec.path for entry in self.mounts()[:20]) or "none yet (`headrace mount add`)"
        raise NotFound(f"nothing is mounted at {path}; mounts: {known}", path=path)

    def state(self) -> NodeState:
        """Everything that the processes of a node must know."""
        return NodeState(
            epoch=self.ledger.state.epoch() + 1,
            mounts=tuple(entry.spec for entry in self.mounts()),
            keys=self.keys(),
            rules=self.settings.rules + self.ledger.state.rules(),
        )

    def check_new(self, spec: MountSpec) -> None:
        """Raises `SettingsError` unless `spec` may be added as it stands."""
        check_mount(spec, [entry.spec.path for entry in self.mounts()])

    def add_mount(self, spec: MountSpec, *, actor: str) -> None:
        """Write a new mount down; `check_new` and a try come before. Raises `SettingsError` when its path is taken."""
        self.check_new(spec)
        if not self.ledger.state.put_mount(spec, expected=None):
            raise SettingsError(f"{spec.path} was mounted by somebody else just now: see `headrace mount ls`", path=spec.path)
        self.ledger.audit.add("mount.add", actor=actor, target=spec.path, detail=spec.store)

    def check_replacement(self, spec: MountSpec) -> None:
        """Raises `NotFound`, or `SettingsError` unless `spec` may take the place of the mount at its path."""
        self._changeable(spec.path)
        check_mount(spec)

    def replace_mount(self, spec: MountSpec, *, expected: MountSpec, actor: str) -> None:
        """Put `spec` in the place of `expected`. Raises `VersionChanged` when somebody else changed it meanwhile."""
        self.check_replacement(spec)
        if not self.ledger.state.put_mount(spec, expected=expected):
            raise VersionChanged(f"mount {spec.path} was changed by somebody else meanwhile: look at it and try again")
        self.ledger.audit.add("mount.set", actor=actor, target=spec.path, detail=spec.store)

    def remove_mount(self, path: str, *, actor: str) -> None:
        """Forget a mount; nothing at its store changes. Raises `NotFound`, or `SettingsError` for one of the settings."""
        if any(spec.path == path for spec in self.ledger.state.mounts()):
            self.ledger.state.delete_mount(path)
            self.ledger.audit.add("mount.rm", actor=actor, target=path)
            return
        self._changeable(path)

    def check_pin(self, path: str) -> None:
        """Raises `SettingsError` unless `path` may be pinned."""
        if not path.startswith("/"):
            raise SettingsError(f"{path!r} is not a path of the namespace: begin with a slash", path=path)

    def pins_around(self, path: str) -> tuple[str, ...]:
        """Pins that lie at, below or above `path`."""
        return tuple(pin for pin in self.ledger.state.pins() if is_below(pin, path) or is_below(path, pin))

    def set_pin(self, path: str, on: bool, *, actor: str) -> bool:
        """Write it down; whether anything changed."""
        self.check_pin(path)
        changed = self.ledger.state.set_pin(path, on)
        if changed:
            self.ledger.audit.add("pin.on" if on else "pin.off", actor=actor, target=path)
        return changed

    def _changeable(self, path: str) -> MountSpec:
        entry = self.mount(path)
        if entry.origin == "settings":
            raise SettingsError(f"mount {path} stands in the settings file: change it there, then restart", path=path)
        return entry.spec


def is_below(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def admin_token_file(home: Path) -> Path:
    """Where the control port's token lies."""
    return home / "run" / "admin.token"
