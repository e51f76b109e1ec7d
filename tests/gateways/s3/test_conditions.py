"""Conditions and their precedence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.http.dates import format_date
from headrace.gateways.s3.conditions import Verdict, judge, range_still_valid
from headrace.model.objects import ObjectInfo, Version

NOW = 1_795_000_000.0
CHANGED = 1_700_000_000
INFO = ObjectInfo("k", 3, Version("etag:abc"), modified_s=float(CHANGED), etag="abc")
BEFORE, AT, AFTER = (format_date(CHANGED + delta).encode() for delta in (-10, 0, 10))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Verdict.GO),
        ({b"if-match": b'"abc"'}, Verdict.GO),
        ({b"if-match": b"abc"}, Verdict.GO),
        ({b"if-match": b"*"}, Verdict.GO),
        ({b"if-match": b'"x", "abc"'}, Verdict.GO),
        ({b"if-match": b'"x"'}, Verdict.FAILED),
        ({b"if-match": b'W/"abc"'}, Verdict.FAILED),
        ({b"if-none-match": b'"abc"'}, Verdict.NOT_MODIFIED),
        ({b"if-none-match": b'W/"abc"'}, Verdict.NOT_MODIFIED),
        ({b"if-none-match": b"*"}, Verdict.NOT_MODIFIED),
        ({b"if-none-match": b'"x"'}, Verdict.GO),
        ({b"if-modified-since": AT}, Verdict.NOT_MODIFIED),
        ({b"if-modified-since": BEFORE}, Verdict.GO),
        ({b"if-modified-since": b"nonsense"}, Verdict.GO),
        ({b"if-unmodified-since": BEFORE}, Verdict.FAILED),
        ({b"if-unmodified-since": AT}, Verdict.GO),
        ({b"if-match": b'"abc"', b"if-unmodified-since": BEFORE}, Verdict.GO),
        ({b"if-none-match": b'"x"', b"if-modified-since": AFTER}, Verdict.GO),
        ({b"if-match": b'"x"', b"if-none-match": b'"abc"'}, Verdict.FAILED),
    ],
)
def test_precedence(headers: dict[bytes, bytes], expected: Verdict) -> None:
    assert judge(headers, INFO, NOW) is expected


def test_if_range_needs_the_very_version() -> None:
    assert range_still_valid(None, INFO, NOW)
    assert range_still_valid(b'"abc"', INFO, NOW)
    assert range_still_valid(AT, INFO, NOW)
    assert not range_still_valid(b'W/"abc"', INFO, NOW)
    assert not range_still_valid(b'"x"', INFO, NOW)
    assert not range_still_valid(AFTER, INFO, NOW)


@given(
    st.dictionaries(
        st.sampled_from([b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"]), st.binary(max_size=60)
    )
)
def test_any_bytes_are_judged(headers: dict[bytes, bytes]) -> None:
    assert judge(headers, INFO, NOW) in Verdict
