"""Access control lists: what an owner grants is what others may do, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.policy.acls import EVERYBODY, SIGNED, Acl, Grant, Permission, canned, decoded
from headrace.policy.rules import ANONYMOUS, Caller

ANNA, BOB = Caller("anna"), Caller("bob")
CALLERS = (ANONYMOUS, ANNA, BOB)


def allowed(acl: Acl, permission: Permission) -> list[str]:
    return [caller.key_id for caller in CALLERS if acl.allows(caller, permission)]


@pytest.mark.parametrize(
    ("name", "readers", "writers"),
    [
        ("private", ["anna"], ["anna"]),
        ("public-read", ["", "anna", "bob"], ["anna"]),
        ("public-read-write", ["", "anna", "bob"], ["", "anna", "bob"]),
        ("authenticated-read", ["anna", "bob"], ["anna"]),
        ("bucket-owner-read", ["anna", "bob"], ["anna"]),
        ("bucket-owner-full-control", ["anna", "bob"], ["anna", "bob"]),
    ],
)
def test_canned_lists_grant_what_their_names_say(name: str, readers: list[str], writers: list[str]) -> None:
    acl = canned(name, "anna", "bob")
    assert acl is not None
    assert allowed(acl, Permission.READ) == readers
    assert allowed(acl, Permission.WRITE) == writers
    assert ANONYMOUS.key_id not in (caller for caller in allowed(acl, Permission.WRITE_ACP))


def test_a_list_that_is_not_kept_has_no_meaning() -> None:
    assert canned("log-delivery-write", "anna", "anna") is None


def test_what_nobody_owns_is_left_to_the_rules_for_callers_with_a_key_alone() -> None:
    assert allowed(Acl(), Permission.FULL_CONTROL) == ["anna", "bob"]
    assert not Acl("anna").owned_by(ANONYMOUS)


ACLS = st.builds(
    Acl,
    st.sampled_from(["", "anna", "bob"]),
    st.lists(st.builds(Grant, st.sampled_from(["anna", "bob", EVERYBODY, SIGNED]), st.sampled_from(Permission)), max_size=4).map(
        tuple
    ),
)


@given(ACLS)
def test_a_list_is_read_as_it_was_kept(acl: Acl) -> None:
    assert decoded(acl.encoded()) == acl


@given(ACLS, st.sampled_from(Permission), st.sampled_from(CALLERS))
def test_nothing_is_allowed_that_was_not_granted(acl: Acl, permission: Permission, caller: Caller) -> None:
    granted = [
        grant
        for grant in acl.grants
        if grant.permission in (permission, "FULL_CONTROL")
        if grant.grantee == EVERYBODY or (caller.key_id and grant.grantee in (SIGNED, caller.key_id))
    ]
    owner = bool(caller.key_id) and acl.owner in ("", caller.key_id)
    assert acl.allows(caller, permission) == (owner or bool(granted))
