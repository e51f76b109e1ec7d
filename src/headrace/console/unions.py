"""Members of a union as they are typed: `STORE[,option=value…]`. Pure."""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec

from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec

# A store's URL may hold commas of its own: only one before `name=` ends it.
_OPTION = re.compile(r",(?=[A-Za-z_-]+=)")
_OF_THE_MOUNT = ("acls", "anonymous", "create_buckets", "write", "write_target")
_NO_OPTIONS = ("path", "store", "union")


def read_member(text: str, common: MountSpec) -> MountSpec:
    """The member that `text` names, with the options of `common` where it has none of its own. Raises `SettingsError`."""
    store, *pieces = _OPTION.split(text)
    where = f"mount {common.path}, union member {store!a}"
    given: dict[str, Any] = {}
    for piece in pieces:
        typed, _, value = piece.partition("=")
        name = typed.replace("-", "_")
        if name in given:
            raise SettingsError(f"{where}: {typed} is given twice: write it once", path=common.path)
        _check_name(typed, name, where)
        given[name] = value
    return changed(msgspec.structs.replace(common, store=store, union=(), write_target=0), given, where)


def changed(spec: MountSpec, given: dict[str, Any], where: str) -> MountSpec:
    """`spec` with the options that were given, as text or as values. Raises `SettingsError` that begins with `where`."""
    try:
        return msgspec.convert(msgspec.to_builtins(spec) | given, MountSpec, strict=False)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        name = place.rstrip("`")
        shown = f"{name.replace('_', '-')}={given[name]}: " if name in given else ""
        raise SettingsError(f"{where}: {shown}{what}", path=spec.path) from error


def members_changed(spec: MountSpec, given: dict[str, Any]) -> MountSpec:
    """A union whose members have the options that were given to it too: it is they that are read."""
    own = {name: value for name, value in given.items() if name not in _OF_THE_MOUNT}
    members = tuple(changed(member, own, f"mount {spec.path}, union member {member.store!a}") for member in spec.union)
    return msgspec.structs.replace(spec, union=members)


def _check_name(typed: str, name: str, where: str) -> None:
    if name in _OF_THE_MOUNT:
        raise SettingsError(f"{where}: {typed} is the whole mount's: write --{name.replace('_', '-')} beside it")
    known = [field for field in MountSpec.__struct_fields__ if field not in (*_OF_THE_MOUNT, *_NO_OPTIONS)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0].replace('_', '-')}?" if near else f"there are {', '.join(known).replace('_', '-')}"
        raise SettingsError(f"{where}: {typed!a} is no option of a member: {hint}")
