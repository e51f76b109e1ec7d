"""The policy against a slow reading of its own rules, and what no rule may be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import SettingsError
from headrace.policy.rules import ANONYMOUS, Action, Caller, Policy, Rule
from headrace.settings import parse_settings

SEGMENTS = st.sampled_from(["a", "b", "ab", "A", "*", "", ".", "..", "\u00f1", "n\u0303", "%2F"])
PATHS = st.lists(SEGMENTS, max_size=4).map(lambda parts: "/" + "/".join(parts))
PATTERNS = st.one_of(PATHS, PATHS.map(lambda path: path + "*"), PATHS.map(lambda path: path.rstrip("/") + "/*"))
CALLERS = st.sampled_from([Caller("anna"), Caller("bob"), ANONYMOUS])
ACTIONS = st.sampled_from(list(Action))
RULES = st.lists(
    st.builds(
        Rule,
        path=PATTERNS,
        callers=st.lists(st.sampled_from(["*", "anna", "bob", "carl"]), min_size=1, max_size=3).map(tuple),
        actions=st.lists(ACTIONS, min_size=1, max_size=4).map(tuple),
        effect=st.sampled_from(["allow", "deny"]),
    ),
    max_size=6,
)


def covers(pattern: str, path: str) -> bool:
    """A path is covered when the pattern names it, names a folder above it, or ends with `*` before which it agrees."""
    if pattern[-1:] == "*":
        stem = pattern[: len(pattern) - 1]
        return path[: len(stem)] == stem
    folders = ["/"] + [path[:end] for end in range(1, len(path) + 1) if end == len(path) or path[end] == "/"]
    while len(pattern) > 1 and pattern[-1] == "/" and pattern != path:
        pattern = pattern[:-1]
    return pattern in folders


def slow_decide(rules: list[Rule], caller: Caller, action: Action, path: str, *, open_mount: bool) -> bool:
    about_me = [rule for rule in rules if any(name in ("*", caller.key_id) for name in rule.callers)]
    if caller.key_id == "":
        about_me = [rule for rule in rules if "*" in rule.callers]
    matching = [rule.effect for rule in about_me if covers(rule.path, path) and action in rule.actions]
    if "deny" in matching:
        return False
    if caller.key_id == "":
        return open_mount and action in (Action.READ, Action.LIST)
    limited = any(rule.effect == "allow" for rule in about_me)
    return "allow" in matching if limited else True


@settings(max_examples=200, deadline=None)
@given(rules=RULES, caller=CALLERS, action=ACTIONS, path=PATHS, open_mount=st.booleans())
def test_it_decides_as_the_rules_read(rules: list[Rule], caller: Caller, action: Action, path: str, open_mount: bool) -> None:
    decided = Policy(tuple(rules)).decide(caller, action, path, anonymous_mount=open_mount)
    assert decided.allowed == slow_decide(rules, caller, action, path, open_mount=open_mount)
    assert decided.reason


@settings(max_examples=150, deadline=None)
@given(rules=RULES, extra=RULES, caller=CALLERS, action=ACTIONS, path=PATHS)
def test_an_added_rule_never_gives_a_caller_that_is_limited_less_denial(
    rules: list[Rule], extra: list[Rule], caller: Caller, action: Action, path: str
) -> None:
    denies = [rule for rule in extra if rule.effect == "deny"]
    before = Policy(tuple(rules)).decide(caller, action, path).allowed
    for order in ((*rules, *denies), (*denies, *rules)):
        assert before or not Policy(order).decide(caller, action, path).allowed


@settings(max_examples=150, deadline=None)
@given(rules=RULES, caller=CALLERS, prefix=PATHS, tail=st.text("ab/*.", max_size=4))
def test_a_listing_is_filtered_wherever_an_entry_may_be_decided_otherwise(
    rules: list[Rule], caller: Caller, prefix: str, tail: str
) -> None:
    policy = Policy(tuple(rules))
    if policy.denies_below(caller, Action.LIST, prefix):
        return
    whole = policy.decide(caller, Action.LIST, prefix, anonymous_mount=True).allowed
    assert policy.decide(caller, Action.LIST, prefix + tail, anonymous_mount=True).allowed == whole


@pytest.mark.parametrize(
    "rule",
    [
        {"path": "/a", "effect": "Deny"},
        {"path": "/a", "effect": "deny "},
        {"path": "/a", "effect": ""},
        {"path": "a/secret", "effect": "deny"},
        {"path": "", "effect": "deny"},
        {"path": "/a", "actions": ["*"]},
        {"path": "/a", "actions": []},
        {"path": "/a", "callers": []},
        {"path": "/a", "callers": [""]},
        {"path": "/a", "caller": ["bob"]},
        {"path": "/a", "callers": "bob"},
    ],
)
def test_a_rule_that_would_never_hold_refuses_to_start(rule: dict[str, Any]) -> None:
    """A deny that is misspelt must not become no rule at all."""
    with pytest.raises(SettingsError, match="rule"):
        parse_settings({"rule": [rule]}, "headrace.toml")


def test_a_rule_reads_back_as_it_was_written() -> None:
    rule = Rule("/a/secret/*", callers=("bob",), actions=(Action.READ,), effect="deny")
    assert msgspec.json.decode(msgspec.json.encode(rule), type=Rule) == rule
