"""`headrace.toml`: found, read, checked, explained."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from headrace.model.errors import SettingsError
from headrace.model.mounts import Residency, WriteMode
from headrace.settings import load_settings, parse_settings

SAMPLE = """
[server]
data_listen = "127.0.0.1:9400"
control_listen = "127.0.0.1:9401"
processes = 0
home = "/var/lib/headrace"

[cache]
memory = "1GiB"
disk = [{ path = "pages", capacity = "50GiB" }]
page = "1MiB"

[[key]]
id = "analyst"
secret = "env:HEADRACE_ANALYST_SECRET"

[[mount]]
path = "/sales"
store = "s3://corp-sales/2026"
endpoint = "http://127.0.0.1:8333"
credentials = "env:CORP"
region = "us-east-1"
freshness = "30s"
write = "through"
residency = "disk"
create_buckets = false
anonymous = false
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    return str(path)


def test_the_documented_sample_works_as_it_stands(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, SAMPLE), {})
    assert settings.cache.geometry.page == 1 << 20
    assert settings.mount[0].write is WriteMode.THROUGH
    assert settings.mount[0].residency is Residency.DISK
    assert str(settings.home) == "/var/lib/headrace"
    assert settings.cache.disk[0].root(settings.home) == Path("/var/lib/headrace/pages")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[servr]\n", r"unknown key `servr`; did you mean `server`\?"),
        ("[server]\ndata_listn = '1'\n", r"unknown key `data_listn` in \[server\]; did you mean `data_listen`\?"),
        ("[[mount]]\npath='/a'\nfreshnes='1s'\n", r"unknown key `freshnes` in \[mount\]; did you mean `freshness`\?"),
        ("[cache]\ndisk=[{path='p', capacty='1GiB'}]\n", r"unknown key `capacty` in \[cache.disk\]; did you mean `capacity`\?"),
        ("[cache]\nmemory=5\n", r'memory: write a size as text, such as "1GiB"'),
        ("[[mount]]\npath='/a'\nresidency='ram'\n", "residency is disk, memory or none"),
        ("source='x'\n", "unknown key `source`"),
        ("[server\n", "headrace.toml"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(written(tmp_path, text), {})


def test_the_file_is_found_by_option_then_environment_then_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {"HOME": "/h"}).source == ""
    here = written(tmp_path, "[server]\nprocesses=1\n")
    (tmp_path / "env.toml").write_text("[server]\nprocesses=2\n")
    (tmp_path / "opt.toml").write_text("[server]\nprocesses=3\n")
    environ = {"HOME": "/h", "HEADRACE_CONFIG": str(tmp_path / "env.toml")}
    assert load_settings(None, {"HOME": "/h"}).source == here
    assert load_settings(None, environ).server.processes == 2
    assert load_settings(str(tmp_path / "opt.toml"), environ).server.processes == 3
    with pytest.raises(SettingsError, match=r"\$HEADRACE_CONFIG names"):
        load_settings(None, {"HEADRACE_CONFIG": "/no/such.toml"})


def test_the_home_is_named_by_file_environment_or_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(load_settings(None, {"HOME": "/h"}).home) == "/h/.local/share/headrace"
    assert str(load_settings(None, {"HOME": "/h", "XDG_DATA_HOME": "/x"}).home) == "/x/headrace"
    assert str(load_settings(None, {"HOME": "/h", "HEADRACE_HOME": "/hh"}).home) == "/hh"
    config = written(tmp_path, "[server]\nhome='state'\n")
    assert load_settings(config, {"HOME": "/h", "HEADRACE_HOME": "/hh"}).home == tmp_path / "state"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[server]\ndrain = 30", '[server] drain: write a duration as text, such as "30s"'),
        ('[server]\ndrain = "30"', "[server] drain: '30' is not a duration: write a number with ms, s, m, h or d, such as 30s"),
        ('[server]\nprocesses = "2"', "[server] processes: write a whole number without quotes"),
        ('[[rule]]\npath = "/a"\neffect = "maybe"', "[rule] effect is allow or deny"),
        ('[[rule]]\npath = "/a"\nactions = ["raed"]', "[rule] actions is read, list, write or admin"),
        ('[[mount]]\nstore = "s3://b"', "[mount] lacks `path`: write it"),
        ("mount = 5", 'mount: write a list, such as ["value"]'),
    ],
)
def test_a_value_of_the_wrong_kind_names_file_key_and_what_to_write(written: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_settings(tomllib.loads(written), "here/headrace.toml")
    assert str(raised.value) == f"here/headrace.toml: {said}"
