"""Which version an answer proves, and for how long it does not prove one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import Unsupported
from headrace.stores.web_versions import seen

NOW = 1_800_000_000.0
AT = "Fri, 15 Jan 2027 08:00:{:02} GMT"
"""Seconds after `NOW`."""


def test_a_strong_etag_is_the_version_and_settled_at_once() -> None:
    found = seen("a", 5, {"etag": '"abc"', "last-modified": AT.format(0), "date": AT.format(0)}, 0.0)
    assert (found.info.version.token, found.info.etag, found.info.modified_s, found.unsettled_s) == ("etag:abc", "abc", NOW, 0.0)


@pytest.mark.parametrize("etag", ["", 'W/"abc"', "abc", f'"{int(NOW):x}-5"'], ids=["none", "weak", "unquoted", "a stamp"])
def test_what_proves_no_bytes_leaves_time_and_length(etag: str) -> None:
    found = seen("a", 5, {"etag": etag, "last-modified": AT.format(0), "date": AT.format(30)}, 0.0)
    assert found.info.version.token == f"stat:{int(NOW)}000000000-5"
    assert found.unsettled_s == 0.0


@pytest.mark.parametrize(("told", "unsettled"), [(0, 2.0), (1, 1.0), (2, 0.0), (50, 0.0)])
def test_a_change_within_the_last_two_seconds_is_unsettled(told: int, unsettled: float) -> None:
    assert seen("a", 5, {"last-modified": AT.format(0), "date": AT.format(told)}, NOW + 1000).unsettled_s == unsettled


def test_without_the_servers_time_ours_counts() -> None:
    assert seen("a", 5, {"last-modified": AT.format(0)}, NOW + 0.5).unsettled_s == 1.5


def test_a_stamp_a_little_ahead_is_unsettled_and_one_far_ahead_was_set_by_hand() -> None:
    assert seen("a", 5, {"last-modified": AT.format(9), "date": AT.format(0)}, 0.0).unsettled_s == 11.0
    assert seen("a", 5, {"last-modified": "Fri, 15 Jan 2038 08:00:00 GMT", "date": AT.format(0)}, 0.0).unsettled_s == 0.0


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=30))
def test_without_evidence_there_is_no_object(etag: str, modified: str) -> None:
    try:
        found = seen("a", 5, {"etag": etag, "last-modified": modified}, NOW)
    except Unsupported:
        return
    assert found.info.version.token in (f"etag:{etag[1:-1]}", f"stat:{int(found.info.modified_s)}000000000-5")
