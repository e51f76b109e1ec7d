"""The journal's format: what was written is read back, and nothing else is ever made of any bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.model.writing import Attributes
from headrace.staging.records import HEAD_BYTES, Damage, Delete, Done, Entry, Put, Record, decode, encode, scan

TEXTS = st.text(max_size=12)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        Put,
        key=TEXTS,
        size=st.integers(0, 2**50),
        etag=TEXTS,
        staged_s=st.floats(0, 4e9),
        attributes=st.builds(Attributes, TEXTS, PAIRS, PAIRS, PAIRS),
        checksums=PAIRS,
        replaces=TEXTS,
        body_file=TEXTS,
        body_sum=st.integers(0, 2**64 - 1),
    ),
    st.builds(Delete, key=TEXTS, staged_s=st.floats(0, 4e9), replaces=TEXTS),
    st.builds(Done, log=st.integers(0, 2**31), offset=st.integers(0, 2**40), key=TEXTS, left=TEXTS),
)
WRITTEN = st.lists(st.tuples(ENTRIES, st.binary(max_size=300)), max_size=6)


def log_of(written: list[tuple[Entry, bytes]]) -> tuple[bytes, list[int]]:
    """A log, and where its records begin and end."""
    log, bounds = b"", [0]
    for entry, body in written:
        log += encode(entry, body)
        bounds.append(len(log))
    return log, bounds


def read_of(log: bytes):
    return lambda offset, length: log[offset : offset + length]


@given(WRITTEN)
def test_what_was_written_is_scanned_in_order(written: list[tuple[Entry, bytes]]) -> None:
    log, bounds = log_of(written)
    found = list(scan(read_of(log), 0, len(log)))
    assert all(isinstance(record, Record) for record in found)
    assert [record.entry for record in found if isinstance(record, Record)] == [entry for entry, _ in written]
    for record, (_, body), start, end in zip(found, written, bounds, bounds[1:], strict=False):
        assert isinstance(record, Record)
        assert (record.offset, record.end) == (start, end)
        assert log[record.body_offset : record.body_offset + record.body_bytes] == body
        assert record.end % 8 == 0


@given(WRITTEN, st.data())
def test_a_log_cut_anywhere_loses_only_what_was_cut(written: list[tuple[Entry, bytes]], data: st.DataObject) -> None:
    log, bounds = log_of(written)
    cut = data.draw(st.integers(0, len(log)))
    found = list(scan(read_of(log[:cut]), 0, cut))
    whole = sum(1 for end in bounds[1:] if end <= cut)
    records = [item for item in found if isinstance(item, Record)]
    assert [record.entry for record in records] == [entry for entry, _ in written[:whole]]
    assert [item for item in found if isinstance(item, Damage)] == ([Damage(bounds[whole], cut)] if bounds[whole] < cut else [])


@given(WRITTEN.filter(bool), st.data())
def test_a_flipped_bit_costs_one_record_and_those_behind_it_live(written: list[tuple[Entry, bytes]], data: st.DataObject) -> None:
    log, bounds = log_of(written)
    at = data.draw(st.integers(0, len(log) - 1))
    broken = bytearray(log)
    broken[at] ^= 1 << data.draw(st.integers(0, 7))
    hit = next(number for number, end in enumerate(bounds[1:]) if at < end)
    found = list(scan(read_of(bytes(broken)), 0, len(log)))
    records = [item.entry for item in found if isinstance(item, Record)]
    others = [entry for number, (entry, _) in enumerate(written) if number != hit]
    damage = [item for item in found if isinstance(item, Damage)]
    if damage:
        assert records == others
        assert (damage[0].offset, damage[0].end) == (bounds[hit], bounds[hit + 1])
    else:  # only the zeros behind a body, which mean nothing, can be flipped unseen
        record = found[hit]
        assert isinstance(record, Record)
        assert at >= record.body_offset + record.body_bytes
        assert records == [entry for entry, _ in written]


@given(WRITTEN.filter(bool), st.data())
def test_damage_of_a_body_names_its_key(written: list[tuple[Entry, bytes]], data: st.DataObject) -> None:
    written = [(entry, body + b"x") for entry, body in written if not isinstance(entry, Done)] or [(Delete("k", 0.0), b"x")]
    log, bounds = log_of(written)
    hit = data.draw(st.integers(0, len(written) - 1))
    record = decode(read_of(log), bounds[hit])
    assert record is not None
    broken = bytearray(log)
    broken[record.body_offset] ^= 0xFF
    damage = [item for item in scan(read_of(bytes(broken)), 0, len(log)) if isinstance(item, Damage)]
    assert [item.key for item in damage] == [written[hit][0].key]


@given(st.binary(max_size=400))
def test_no_bytes_make_a_record_that_nobody_wrote(noise: bytes) -> None:
    found = list(scan(read_of(noise), 0, len(noise)))
    assert all(isinstance(item, Damage) for item in found)
    assert sum(item.end - item.offset for item in found) == len(noise)


def test_a_record_is_small() -> None:
    assert len(encode(Delete("a/key/of/usual/length.parquet", 1.0))) < HEAD_BYTES + 128
