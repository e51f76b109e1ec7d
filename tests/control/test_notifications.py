"""Notifications of stores, in every wrapping: which objects they name, and that nothing else is made of any bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control.notifications import ChangedObject, parse_notification
from headrace.model.errors import SettingsError

NAMED = (ChangedObject("b", "a b/é+c.csv"),)


def record(bucket: str = "b", key: str = "a+b/%C3%A9%2Bc.csv") -> dict[str, Any]:
    return {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": "x"}}}


RECORDS = {"Records": [record()]}
TEXT = json.dumps(RECORDS)


@pytest.mark.parametrize(
    "message",
    [
        RECORDS,
        {"EventName": "s3:ObjectRemoved:Delete", "Key": "b/x", **RECORDS},
        {"Records": [{"eventSource": "aws:sqs", "body": TEXT}]},
        {"Messages": [{"MessageId": "1", "Body": TEXT}, {"MessageId": "2", "Body": TEXT}]},
        {"Type": "Notification", "Message": TEXT},
        {"Messages": [{"Body": json.dumps({"Type": "Notification", "Message": TEXT})}]},
        [RECORDS, RECORDS],
        {"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": "a b/é+c.csv"}}},
    ],
    ids=["S3", "webhook", "SQS to a function", "SQS", "SNS", "SNS in SQS", "several", "EventBridge"],
)
def test_the_object_is_found_in_every_wrapping(message: object) -> None:
    assert parse_notification(json.dumps(message).encode()) == NAMED


def test_a_test_message_names_nothing() -> None:
    assert parse_notification(b'{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}') == ()
    assert parse_notification(b'{"Records": []}') == ()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff", b"[[[[[[[[]]]]]]]]", b"{}", b"7", b'{"Records": [{}]}', b'{"Message": "no json"}', b"[" * 100_000,
        b'{"Records": [{"s3": {"bucket": {"name": "b"}}}]}',
        b'{"Records": [{"s3": {"bucket": {"name": 7}, "object": {"key": "k"}}}]}',
        b'{"Records": [{"s3": {"bucket": {"name": ""}, "object": {"key": "k"}}}]}',
        json.dumps({"Records": [record(key=str(number)) for number in range(10_001)]}).encode(),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_words(body: bytes) -> None:
    with pytest.raises(SettingsError, match="notification"):
        parse_notification(body)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=5))
def test_every_object_is_named_once(objects: list[tuple[str, str]]) -> None:
    details = [{"detail": {"bucket": {"name": bucket}, "object": {"key": key}}} for bucket, key in objects]
    found = parse_notification(json.dumps([*details, *details]).encode("utf-8", "surrogatepass"))
    assert found == tuple(dict.fromkeys(ChangedObject(*pair) for pair in objects))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["Records", "Messages", "Message", "Body", "s3", "detail", "bucket", "object", "name", "key"]),
                inner,
            )
        ),
        max_leaves=20,
    )
)
def test_no_json_makes_it_fail_otherwise(message: object) -> None:
    try:
        found = parse_notification(json.dumps(message).encode())
    except SettingsError:
        return
    assert all(changed.bucket and changed.key for changed in found)
