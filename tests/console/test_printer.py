from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.console.printer import print_json, print_table, safe, show_health, show_seconds
from headrace.control.node_view import MountStats
from headrace.model.objects import CommonPrefix

NASTY = "a\x1b]0;owned\x07\x1b[2Jb\r\n\x9b31m\u202egnp.exe\u200b\ud800\u2028é"


def test_terminal_controls_are_shown_as_escapes() -> None:
    assert safe("a\x1b[31m\r\u202eé") == "a\\x1b[31m\\x0d\\u202eé"
    assert safe("plain text/with spaces") == "plain text/with spaces"


@given(st.text(alphabet=st.characters()))
def test_nothing_that_acts_on_a_terminal_gets_through(text: str) -> None:
    shown = safe(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)


def test_tables_and_json_carry_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("KEY", "N"), [(NASTY, "1"), ("[bold]x[/bold]", "22")], right=frozenset({1}))
    print_json(CommonPrefix(NASTY))
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07", "\x9b", "\r", "\u202e"}
    assert "[bold]x[/bold]" in out
    assert json.loads(out.splitlines()[-1])["key"] == NASTY


def test_spans_of_time_for_people() -> None:
    assert [show_seconds(s) for s in (0.0012, 1.5, 180, 9000)] == ["1.2 ms", "1.5 s", "3 min", "2.5 h"]


def test_health_is_the_cause_and_how_long_ago_it_was_seen() -> None:
    assert show_health(MountStats("/a", "s3://b"), 100.0) == "healthy"
    sick = MountStats("/a", "s3://b", healthy=False, error="http://h:1: connection refused", checked_s=97.0)
    assert show_health(sick, 100.0) == "http://h:1: connection refused (3 s ago)"
    assert show_health(sick, 97.0 + 600) == "http://h:1: connection refused (10 min ago)"
    assert show_health(MountStats("/a", "s3://b", healthy=False), 100.0) == "failing"
