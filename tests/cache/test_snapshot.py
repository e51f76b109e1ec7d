"""The snapshot of a listing: whole or not used, one writer at a time, and gone when its mount may not keep it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.snapshot import Damaged, Head, Record, SnapshotReader, SnapshotWriter, Span, encode, file_of, joined, sweep
from headrace.model.errors import Unavailable

RECORDS: list[Record] = [(f"k{number:03d}", f"etag:{number}", float(number)) for number in range(50)]


def write(path: Path, records: list[Record] = RECORDS, *, frame: int = 7) -> None:
    writer = SnapshotWriter(path)
    writer.claim("/m")
    writer.begin(Head((Span(""),), ("hidden/",)))
    for start in range(0, len(records), frame):
        some = records[start : start + frame]
        writer.add(some[-1][0], len(some), encode(some))
    writer.finish()
    writer.close()
    assert not writer.failure


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    write(tmp_path / "s")
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0
    reader = SnapshotReader(tmp_path / "s")
    assert reader.head == Head((Span(""),), ("hidden/",))
    below = [record for batch in reader.take("k020") for record in batch]
    rest = [record for batch in reader.take("") for record in batch]
    assert (below, rest) == (RECORDS[:20], RECORDS[20:])
    reader.close()


def test_it_tells_where_pages_may_be_cut(tmp_path: Path) -> None:
    write(tmp_path / "s")
    reader = SnapshotReader(tmp_path / "s")
    assert list(reader.ends(Span(""), 20)) == ["k013", "k027", "k041"]
    assert list(reader.ends(Span("", "k030"), 7)) == ["k006", "k013", "k020"]
    assert list(reader.ends(Span(""), 1)) == [f"k{number:03d}" for number in range(6, 49, 7)]
    assert list(reader.ends(Span(""), 1000)) == []
    taken = [record for batch in reader.take("k020") for record in batch]
    assert list(reader.ends(Span("k020"), 7)) == ["k027", "k034", "k041", "k048"]
    assert taken + [record for batch in reader.take("") for record in batch] == RECORDS
    reader.close()


def test_a_part_can_be_handed_on_to_the_next_file(tmp_path: Path) -> None:
    write(tmp_path / "s")
    reader, writer = SnapshotReader(tmp_path / "s"), SnapshotWriter(tmp_path / "t")
    writer.claim("/m")
    writer.begin(reader.head)
    reader.hand_on("k010", writer)
    assert [record for batch in reader.take("k040") for record in batch] == RECORDS[10:40]
    reader.hand_on("", writer)
    writer.finish()
    writer.close()
    reader.close()
    again = SnapshotReader(tmp_path / "t")
    assert [record for batch in again.take("") for record in batch] == RECORDS[:10] + RECORDS[40:]
    again.close()


def test_every_damage_is_noticed_before_anything_is_used(tmp_path: Path) -> None:
    write(tmp_path / "s", RECORDS[:3])
    whole = (tmp_path / "s").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(Damaged):
            SnapshotReader(tmp_path / "cut")
    for position in range(len(whole)):
        (tmp_path / "bent").write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(Damaged):
            SnapshotReader(tmp_path / "bent")


def test_one_writer_at_a_time_and_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "s", RECORDS[:1])
    one, two = SnapshotWriter(tmp_path / "s"), SnapshotWriter(tmp_path / "s")
    one.claim("/m")
    with pytest.raises(Unavailable, match="looks through /m"):
        two.claim("/m")
    two.close()
    one.begin(Head())
    one.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "s"]
    reader = SnapshotReader(tmp_path / "s")
    assert list(reader.take("")) == [RECORDS[:1]]
    reader.close()


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "s.new").write_bytes(b"half of something" * 1000)
    write(tmp_path / "s")
    reader = SnapshotReader(tmp_path / "s")
    assert [record for batch in reader.take("") for record in batch] == RECORDS
    reader.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "s"]


def test_a_disk_that_fails_is_told_and_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer = SnapshotWriter(tmp_path / "file" / "s")
    writer.claim("/m")
    writer.begin(Head())
    writer.finish()
    writer.close()
    assert "File exists" in writer.failure


def test_what_is_no_longer_mounted_is_removed_also_while_it_is_written(tmp_path: Path) -> None:
    kept, gone = file_of(tmp_path, "kept"), file_of(tmp_path, "gone")
    write(kept)
    write(gone)
    writer = SnapshotWriter(gone)
    writer.claim("/m")
    writer.begin(Head())
    sweep(tmp_path, ["kept"])
    writer.finish()
    writer.close()
    assert list(tmp_path.iterdir()) == [kept]
    sweep(tmp_path / "absent", [])


SPANS = st.lists(st.tuples(st.text("abc", max_size=2), st.text("abc", max_size=2)), max_size=5).map(
    lambda pairs: [Span(low, high) for low, high in pairs if not high or low < high]
)


@given(SPANS, st.text("abc", max_size=3))
def test_joined_spans_hold_the_same_keys_and_do_not_touch(spans: list[Span], key: str) -> None:
    found = joined(spans)
    assert any(span.holds(key) for span in found) == any(span.holds(key) for span in spans)
    assert all(one.high and one.high < two.low for one, two in pairwise(found))
    assert all(any(one.covers(span) for one in found) for span in spans)
