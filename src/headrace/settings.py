"""`headrace.toml`: every room's own settings composed into one frozen value, read once."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from headrace.cache.settings import CacheSettings
from headrace.control.settings import ControlSettings, KafkaSource, KeySpec
from headrace.gateways.fuse.settings import FuseSettings
from headrace.gateways.settings import GatewaySettings
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.model.units import parse_duration, parse_size
from headrace.policy.rules import Rule
from headrace.scratch.settings import ScratchSettings
from headrace.staging.settings import StagingSettings

CONFIG_NAME = "headrace.toml"


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[server]`: where Headrace listens and keeps its state."""

    data_listen: str = "127.0.0.1:9400"
    """Address of the data port (S3), `host:port`."""
    control_listen: str = "127.0.0.1:9401"
    """Address of the control port (status page, REST, metrics)."""
    processes: int = 0
    """Serving processes; 0: one per core."""
    home: str = ""
    """Directory of all state; empty: `$HEADRACE_HOME`, else the XDG data directory."""
    drain: str = "30s"
    """How long running requests may take to finish at a stop."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `headrace.toml`."""

    server: ServerSettings = ServerSettings()
    cache: CacheSettings = CacheSettings()
    staging: StagingSettings = StagingSettings()
    scratch: ScratchSettings = ScratchSettings()
    gateway: GatewaySettings = GatewaySettings()
    fuse: FuseSettings = FuseSettings()
    key: tuple[KeySpec, ...] = ()
    mount: tuple[MountSpec, ...] = ()
    rule: tuple[Rule, ...] = ()
    kafka: tuple[KafkaSource, ...] = ()
    source: str = ""
    """The file that was read; set by `load_settings`, never written in the file."""

    @property
    def home(self) -> Path:
        """The directory of all state."""
        return Path(self.server.home)

    def control(self) -> ControlSettings:
        """The part that the control plane is made of."""
        return ControlSettings(home=self.home, mounts=self.mount, keys=self.key, rules=self.rule, kafka=self.kafka)


def find_config(explicit: str | None, environ: Mapping[str, str]) -> Path | None:
    """`--config`, else `$HEADRACE_CONFIG`, else the working directory's file, else None.

    Raises `SettingsError` when a file that was named does not exist.
    """
    named = explicit or environ.get("HEADRACE_CONFIG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            origin = "--config" if explicit else "$HEADRACE_CONFIG"
            raise SettingsError(f"{origin} names {path}, which is not a file", path=str(path))
        return path
    here = Path(CONFIG_NAME)
    return here if here.is_file() else None


def load_settings(config: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file that `find_config` finds, or the defaults. Raises `SettingsError`."""
    environ = os.environ if environ is None else environ
    path = find_config(config, environ)
    if path is None:
        return _with_home(Settings(), "", environ)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}", path=str(path)) from error
    except RecursionError as error:
        raise SettingsError(f"{path}: tables or lists are nested too deeply in it", path=str(path)) from error
    if "source" in raw:
        raise SettingsError(f"{path}: unknown key `source`", path=str(path))
    return _with_home(parse_settings(raw, str(path)), str(path.resolve()), environ)


def parse_settings(raw: Mapping[str, Any], where: str) -> Settings:
    """A parsed TOML document as settings. Raises `SettingsError` that names the key and the nearest known one."""
    try:
        settings = msgspec.convert(raw, Settings, strict=True)
        _check_values(settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {_explain(str(error))}", path=where) from error
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}", path=where) from error
    return settings


def _explain(message: str) -> str:
    unknown = re.search(r"unknown field `(.+?)`(?: - at `\$(.*)`)?", message)
    if unknown is None:
        return _explain_type(message)
    name, where = unknown.group(1), (unknown.group(2) or "")
    table = re.sub(r"\[[^\]]*\]", "", where).strip(".")
    known = _known_keys(table)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean `{near[0]}`?" if near else f"; known keys: {', '.join(known)}"
    return f"unknown key `{name}`" + (f" in [{table}]" if table else "") + hint


_WRITE = {
    "str": 'write text between quotes, such as name = "value"',
    "int": "write a whole number without quotes",
    "float": "write a number without quotes",
    "bool": "write true or false, without quotes",
    "array": 'write a list, such as ["value"]',
    "object": "write a table",
}
_EXAMPLES = {
    "memory": 'write a size as text, such as "1GiB"',
    "capacity": 'write a size as text, such as "10GiB"',
    "page": 'write a size as text, such as "64KiB"',
    "quota": 'write a size as text, such as "10GiB"',
    "bandwidth": 'write bytes per second as text, such as "12MB"',
    "max_age": 'write a duration as text, such as "24h"',
    "drain": 'write a duration as text, such as "30s"',
    "ttl": 'write a duration as text, such as "24h"',
    "timeout": 'write a duration as text, such as "30s"',
    "freshness": 'write verify, immutable or a duration as text, such as "30s"',
}


def _explain_type(message: str) -> str:
    """A value of the wrong kind, with its key as it stands in the file and what to write there."""
    told, _, at = message.partition(" - at `$")
    where = at.rstrip("`").lstrip(".")
    if not where:
        return message
    table, _, key = re.sub(r"\[(\d+|\.\.\.)\]", "", where).rpartition(".")
    wrong = re.match(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`", told)
    missing = re.match(r"Object missing required field `(.+)`", told)
    if missing is not None:
        return f"[{'.'.join(filter(None, (table, key)))}] lacks `{missing.group(1)}`: write it"
    choices = _choices(table, key)
    if choices:
        hint = f" is {', '.join(choices[:-1])} or {choices[-1]}"
    elif wrong is not None:
        hint = f": {_EXAMPLES.get(key) or _WRITE.get(wrong.group(1), told)}"
    else:
        hint = f": {told[:1].lower()}{told[1:]}"
    return f"[{table}] {key}{hint}" if table else f"{key}{hint}"


def _choices(table: str, key: str) -> list[str]:
    """The values that a key of a closed set may have."""
    kind = _struct_at(table)
    field = next((f for f in msgspec.structs.fields(kind) if f.name == key), None) if kind is not None else None
    if field is None:
        return []
    for inner in (field.type, *get_args(field.type)):
        if isinstance(inner, type) and issubclass(inner, StrEnum):
            return [member.value for member in inner]
    return list(get_args(field.type)) if get_origin(field.type) is Literal else []


def _check_values(settings: Settings) -> None:
    """Sizes and durations of the file itself, which are text until they are used. Raises `SettingsError`."""
    checks: list[tuple[str, str, Callable[[str], object]]] = [
        ("[server] drain", settings.server.drain, parse_duration),
        ("[cache] memory", settings.cache.memory, parse_size),
        ("[cache] page", settings.cache.page, parse_size),
        ("[staging] capacity", settings.staging.capacity, parse_size),
        ("[staging] max_age", settings.staging.max_age, parse_duration),
        ("[scratch] capacity", settings.scratch.capacity, parse_size),
        ("[fuse] staged", settings.fuse.staged, parse_size),
    ]
    checks += [("[[cache.disk]] capacity", disk.capacity, parse_size) for disk in settings.cache.disk]
    for name, value, parse in checks:
        try:
            parse(value)
        except SettingsError as error:
            raise SettingsError(f"{name}: {error}") from error


def _known_keys(table: str) -> list[str]:
    kind = _struct_at(table)
    return [f.encode_name for f in msgspec.structs.fields(kind) if f.name != "source"] if kind is not None else []


def _struct_at(table: str) -> Any:
    kind: Any = Settings
    for part in filter(None, table.split(".")):
        field = next((f for f in msgspec.structs.fields(kind) if f.name == part), None)
        kind = _struct_in(field.type) if field is not None else None
        if kind is None:
            return None
    return kind


def _struct_in(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    for inner in getattr(kind, "__args__", ()):
        found = _struct_in(inner)
        if found is not None:
            return found
    return None


def _with_home(settings: Settings, source: str, environ: Mapping[str, str]) -> Settings:
    named = settings.server.home or environ.get("HEADRACE_HOME", "")
    if not named:
        data = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".local" / "share")
        named = str(Path(data) / "headrace")
    home = Path(named).expanduser()
    if not home.is_absolute():
        base = Path(source).parent if source and settings.server.home else Path.cwd()
        home = base / home
    server = msgspec.structs.replace(settings.server, home=str(home))
    return msgspec.structs.replace(settings, server=server, source=source)
