"""Marks: what one process writes, no other serves from what it knew before."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.marks import SLOTS, Marks
from headrace.model.errors import SettingsError


def test_processes_that_share_a_home_share_the_marks(tmp_path: Path) -> None:
    one, two = Marks.open(tmp_path / "run/marks"), Marks.open(tmp_path / "run/marks")
    slot = Marks.slot("http://s\ns3://b/", "key")
    before = two.table[slot]
    one.set(slot)
    assert two.table[slot] != before
    assert (tmp_path / "run/marks").stat().st_mode & 0o077 == 0


def test_a_mark_is_never_one_that_was_there_before(tmp_path: Path) -> None:
    one, two = Marks.open(tmp_path / "marks"), Marks.open(tmp_path / "marks")
    seen = {one.table[5]}
    for number in range(1000):
        (one if number % 3 else two).set(5)
        assert one.table[5] not in seen
        seen.add(one.table[5])


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_two_mounts_of_one_store_agree_on_a_keys_slot(prefix: str, inner: str, key: str) -> None:
    assert Marks.slot("e\ns3://b/" + prefix + "/", inner + key) == Marks.slot("e\ns3://b/", prefix + "/" + inner + key)
    assert 0 <= Marks.slot(prefix, key) < SLOTS


def test_a_home_that_cannot_hold_them_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file in the way")
    with pytest.raises(SettingsError, match="home directory"):
        Marks.open(tmp_path / "run" / "marks")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(SettingsError):
        Marks.open(tmp_path / "link")
    assert (tmp_path / "run").stat().st_size == len("a file in the way")


def test_an_era_is_no_keys_slot_and_what_is_ones_own_is_the_last_word(tmp_path: Path) -> None:
    one, two = Marks.open(tmp_path / "marks"), Marks.open(tmp_path / "marks")
    slot = Marks.slot("place", "key")
    assert Marks.era("place") >= SLOTS
    before = one.table[slot]
    two.set(Marks.era("place"))
    one.note_own("place", "key", "etag")
    assert two.is_own("place", "key", "etag")
    assert not two.is_own("place", "key", "other")
    assert not two.is_own("place", "", "keyetag")
    two.note_own("place", "key", "")
    assert not one.is_own("place", "key", "etag")
    two.disown("place", "key")
    assert not one.is_own("place", "key", "")
    assert one.table[slot] == before


def test_marks_of_an_earlier_release_grow(tmp_path: Path) -> None:
    (tmp_path / "marks").write_bytes(b"\x01" * SLOTS * 8)
    marks = Marks.open(tmp_path / "marks")
    assert marks.table[0] == 0x0101010101010101
    marks.set(Marks.era("place"))


def test_setting_all_voids_every_key_in_every_process(tmp_path: Path) -> None:
    ours, theirs = Marks.open(tmp_path / "marks"), Marks.open(tmp_path / "marks")
    slots = [Marks.slot("place", f"key {number}") for number in range(1000)]
    before = [theirs.table[slot] for slot in slots]
    ours.set_all()
    after = [theirs.table[slot] for slot in slots]
    assert all(old != new for old, new in zip(before, after, strict=True))
    ours.set(slots[0])
    assert theirs.table[slots[0]] != after[0]
