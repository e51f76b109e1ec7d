"""Policy rules: who may do what where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.rules import ANONYMOUS, Action, Caller, Policy, Rule

ANNA = Caller("anna")


def test_without_rules_a_key_may_do_everything_and_nobody_else_anything() -> None:
    assert Policy().decide(ANNA, Action.READ, "/a/x").allowed
    assert not Policy().decide(ANONYMOUS, Action.READ, "/a/x").allowed


def test_an_anonymous_mount_lets_everybody_read_and_list_but_not_write() -> None:
    policy = Policy()
    assert policy.decide(ANONYMOUS, Action.READ, "/a/x", anonymous_mount=True).allowed
    assert policy.decide(ANONYMOUS, Action.LIST, "/a", anonymous_mount=True).allowed
    assert not policy.decide(ANONYMOUS, Action.WRITE, "/a/x", anonymous_mount=True).allowed


def test_callers_without_a_key_are_left_to_lists_where_they_are_kept_unless_a_rule_denies() -> None:
    denied = Policy((Rule("/a", ("*",), (Action.READ,), "deny"),))
    for action in (Action.READ, Action.LIST, Action.WRITE):
        assert Policy().decide(ANONYMOUS, action, "/a/x", acls=True).allowed
        assert not Policy().decide(ANONYMOUS, action, "/a/x").allowed or action is not Action.WRITE
    assert not Policy().decide(ANONYMOUS, Action.ADMIN, "/a/x", acls=True).allowed
    assert not denied.decide(ANONYMOUS, Action.READ, "/a/x", acls=True).allowed


def test_a_rule_covers_its_path_and_what_is_below_but_not_its_neighbours() -> None:
    rule = Rule("/a/secret")
    assert rule.covers_path("/a/secret")
    assert rule.covers_path("/a/secret/x")
    assert not rule.covers_path("/a/secrets")
    assert not rule.covers_path("/A/secret/x")
    assert Rule("/a/secret*").covers_path("/a/secrets")


def test_an_allow_rule_limits_its_caller_to_what_it_names() -> None:
    policy = Policy((Rule("/a", callers=("anna",)),))
    assert policy.decide(ANNA, Action.READ, "/a/x").allowed
    assert not policy.decide(ANNA, Action.READ, "/b/x").allowed
    assert policy.decide(Caller("bob"), Action.READ, "/b/x").allowed


def test_anonymous_readers_are_held_by_a_deny_for_everyone() -> None:
    policy = Policy((Rule("/a/secret", effect="deny"),))
    assert not policy.decide(ANONYMOUS, Action.READ, "/a/secret/x", anonymous_mount=True).allowed


PATHS = st.sampled_from(["/a", "/a/b", "/a/b/c", "/ab", "/"])
PATTERNS = st.sampled_from(["/a", "/a/b", "/a/b/c", "/ab", "/", "/a*", "/a/b*", "/*"])
RULES = st.lists(
    st.builds(
        Rule,
        path=PATTERNS,
        callers=st.sampled_from([("*",), ("anna",), ("bob",)]),
        actions=st.sampled_from([(Action.READ,), (Action.READ, Action.LIST), (Action.WRITE,)]),
        effect=st.sampled_from(["allow", "deny"]),
    ),
    max_size=5,
)


@given(rules=RULES, extra=RULES, path=PATHS, action=st.sampled_from(list(Action)))
def test_no_rule_added_ever_lifts_a_deny(rules: list[Rule], extra: list[Rule], path: str, action: Action) -> None:
    denied = any(
        r.effect == "deny" and action in r.actions and r.covers_path(path) and ("*" in r.callers or "anna" in r.callers)
        for r in rules
    )
    if denied:
        assert not Policy((*rules, *extra)).decide(ANNA, action, path).allowed


@given(rules=RULES, path=PATHS, below=st.sampled_from(["/x", "/b", "/b/c"]))
def test_entries_differ_from_their_listing_only_where_denies_below_says_so(rules: list[Rule], path: str, below: str) -> None:
    policy = Policy(tuple(rules))
    if not policy.denies_below(ANNA, Action.LIST, path):
        deeper = path.rstrip("/") + below
        assert policy.decide(ANNA, Action.LIST, deeper).allowed == policy.decide(ANNA, Action.LIST, path).allowed
