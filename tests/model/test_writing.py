import pytest

from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.writing import ALWAYS, BytesBody, Condition, ReadingBody
from headrace.stores.memory import BytesReading

THERE = ObjectInfo("a", 3, Version("etag:e1"), etag="e1")


@pytest.mark.parametrize(
    ("condition", "holds_there", "holds_on_nothing"),
    [
        (ALWAYS, True, True),
        (Condition(if_match="e1"), True, False),
        (Condition(if_match="e2"), False, False),
        (Condition(if_match="*"), True, False),
        (Condition(if_none_match="*"), False, True),
        (Condition(if_none_match="e1"), False, True),
        (Condition(if_none_match="e2"), True, True),
        (Condition(if_match="e1", if_none_match="e2"), True, False),
    ],
)
def test_a_condition_holds_for_what_it_names(condition: Condition, holds_there: bool, holds_on_nothing: bool) -> None:
    assert condition.holds(THERE) is holds_there
    assert condition.holds(None) is holds_on_nothing


def test_only_a_condition_that_asks_for_something_is_true() -> None:
    assert not ALWAYS
    assert Condition(if_match="*")
    assert Condition(if_none_match="*")


async def test_bytes_can_be_iterated_twice() -> None:
    body = BytesBody(b"abc", (("crc32", "x"),))
    assert body.rewindable
    assert body.length == 3
    assert [bytes(piece) async for piece in body] == [bytes(piece) async for piece in body] == [b"abc"]
    assert [piece async for piece in BytesBody(b"")] == []
    assert body.checksums() == (("crc32", "x"),)


async def test_a_reading_is_a_body_and_is_closed_with_it() -> None:
    reading = BytesReading(THERE, ByteRange(0, 3), b"abc")
    body = ReadingBody(reading)
    assert not body.rewindable
    assert body.length == 3
    assert b"".join([bytes(piece) async for piece in body]) == b"abc"
    assert [piece async for piece in reading] == []


def test_a_part_of_an_object_has_none_of_the_whole_checksums() -> None:
    info = ObjectInfo("a", 3, Version("etag:e1"), checksums=(("crc32", "x"), ("type", "FULL_OBJECT")))
    assert ReadingBody(BytesReading(info, ByteRange(0, 3), b"abc")).checksums() == info.checksums
    assert ReadingBody(BytesReading(info, ByteRange(0, 2), b"ab")).checksums() == ()
