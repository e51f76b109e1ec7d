"""Members of a union as they are typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.console.cmd_mount import make_spec
from headrace.console.unions import read_member
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec, Residency

COMMON = MountSpec("/sales", credentials="env:ALL", freshness="5s")


def test_a_member_has_its_own_options_and_the_others_of_the_command() -> None:
    text = "s3://a/x,endpoint=http://127.0.0.1:8333,credentials=env:A,max-connections=3,residency=none,serve-stale=true"
    member = read_member(text, COMMON)
    assert (member.store, member.endpoint, member.credentials) == ("s3://a/x", "http://127.0.0.1:8333", "env:A")
    assert (member.max_connections, member.residency, member.serve_stale) == (3, Residency.NONE, True)
    assert (member.path, member.freshness) == ("/sales", "5s")
    assert read_member("file:///b", COMMON) == MountSpec("/sales", "file:///b", credentials="env:ALL", freshness="5s")


@pytest.mark.parametrize("store", ["file:///a,b", "file:///a,b/c=d", "s3://a/x,y z", "file:///,"])
def test_commas_of_a_url_are_its_own(store: str) -> None:
    assert read_member(store + ",region=eu-west-1", COMMON).store == store


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://a,endpont=http://h", r"union member 's3://a': 'endpont' is no option of a member: did you mean endpoint\?"),
        ("s3://a,zzz=1", "there are endpoint, credentials, region, freshness"),
        ("s3://a,store=s3://b", "'store' is no option"),
        ("s3://a,region=a,region=b", "region is given twice"),
        ("s3://a,anonymous=true", "anonymous is the whole mount's: write --anonymous"),
        ("s3://a,write-target=1", "write-target is the whole mount's: write --write-target"),
        ("s3://a,max-connections=many", "max-connections=many: Expected `int`"),
        ("s3://a,residency=tape", "residency=tape: Invalid enum value 'tape'"),
    ],
)
def test_a_wrong_member_is_named_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_member(text, COMMON)


@given(st.text(max_size=40))
def test_any_text_is_a_member_or_a_wrong_setting(text: str) -> None:
    try:
        assert text.startswith(read_member(text, COMMON).store)
    except SettingsError:
        return


def test_options_of_a_union_hold_for_its_members_and_a_store_ends_it() -> None:
    union = make_spec(MountSpec("/u"), {"region": "eu-west-1"}, ("s3://a,freshness=immutable", "s3://b"))
    assert [member.region for member in union.union] == ["eu-west-1"] * 2
    later = make_spec(union, {"freshness": "verify", "anonymous": True})
    assert [member.freshness for member in later.union] == ["verify"] * 2
    assert later.anonymous
    assert [member.store for member in later.union] == ["s3://a", "s3://b"]
    plain = make_spec(later, {"store": "s3://c"})
    assert (plain.store, plain.union, plain.freshness) == ("s3://c", (), "verify")
    again = make_spec(plain, {}, ("s3://c", "s3://d"))
    assert (again.store, [member.store for member in again.union]) == ("", ["s3://c", "s3://d"])
