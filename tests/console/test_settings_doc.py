from __future__ import annotations

import json
import tomllib

import click
import msgspec
import pytest

from headrace.console.cli import main
from headrace.console.cmd_mount import add
from headrace.console.cmd_settings import document, toml_value
from headrace.model.mounts import MountSpec
from headrace.settings import Settings


def test_every_key_of_every_table_is_documented() -> None:
    keys = document()
    mount = {key.name for key in keys if key.table == "[[mount]]"}
    assert mount == {field.name for field in msgspec.structs.fields(MountSpec)}
    tables = {key.table for key in keys}
    assert {"[server]", "[cache]", "[[cache.disk]]", "[gateway]", "[[key]]", "[[mount]]", "[[rule]]"} <= tables
    assert {field.name for field in msgspec.structs.fields(Settings)} - {"source"} == {
        table.strip("[]").split(".")[0] for table in tables
    }


def test_defaults_are_toml() -> None:
    for key in document():
        if key.default is not None:
            assert tomllib.loads(f"x = {toml_value(key.default)}")["x"] == json.loads(json.dumps(key.default))


def test_it_prints_meanings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["settings"])
    out = capsys.readouterr().out
    assert "[server]" in out
    assert 'data_listen = "127.0.0.1:9400"' in out
    with pytest.raises(SystemExit):
        main(["settings", "--json"])
    assert len(json.loads(capsys.readouterr().out)) == len(document())


def test_every_key_of_mounts_and_rules_has_a_meaning() -> None:
    silent = [f"{key.table} {key.name}" for key in document() if key.table in ("[[mount]]", "[[rule]]") and not key.meaning]
    assert silent == []


def test_the_help_of_a_mount_says_what_each_option_means() -> None:
    options = {parameter.name: parameter for parameter in add.params if isinstance(parameter, click.Option)}
    for field in msgspec.structs.fields(MountSpec):
        if field.name not in ("path", "store", "union"):
            assert options[field.name].help
            assert not options[field.name].hidden
    residency = options["residency"].type
    assert isinstance(residency, click.Choice)
    assert list(residency.choices) == ["disk", "memory", "none"]
