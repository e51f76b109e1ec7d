import base64

from hypothesis import given
from hypothesis import strategies as st

from headrace.model.uploads import MAX_PART_NUMBER, Part
from headrace.stores.kept_text import NAMES, NOTHING, Kept, fingerprint, kept_of_parts, noted, read_notes

DIGESTS = st.binary(min_size=4, max_size=4).map(lambda data: base64.b64encode(data).decode())
PAIRS = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8)), max_size=4, unique_by=lambda pair: pair[0])


@given(st.lists(st.tuples(st.integers(1, 9), DIGESTS), max_size=50), PAIRS, PAIRS)
def test_what_is_noted_is_read_again(
    parts: list[tuple[int, str]], tags: list[tuple[str, str]], headers: list[tuple[str, str]]
) -> None:
    made = [Part(number, "", size, checksums=(("crc32", value),)) for number, (size, value) in enumerate(parts, 1)]
    kept = kept_of_parts(made, "crc32", (("sha256", "AAAA="), ("type", "COMPOSITE")), "upload.1")
    whole = Kept(
        kept.checksums,
        tuple(headers),
        kept.parts,
        kept.part_sizes,
        kept.part_checksums,
        tuple(sorted(tags)),
        kept.upload,
    )
    texts = noted(whole)
    assert all(text.isascii() and text.isprintable() for text in texts.values())
    assert read_notes(texts) == whole
    assert [(part.size, part.checksums) for part in read_notes(texts).named_parts()] == [(p.size, p.checksums) for p in made]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40)))
def test_what_another_wrote_there_says_nothing_or_something_but_never_fails(texts: dict[str, str]) -> None:
    kept = read_notes(texts)
    assert len(kept.named_parts()) == len(kept.part_sizes) <= MAX_PART_NUMBER
    assert kept.part_sizes == () or len(kept.part_sizes) == kept.parts


def test_many_equal_parts_take_little_and_too_many_different_ones_leave_their_number() -> None:
    equal = kept_of_parts([Part(n, "", 8 << 20) for n in range(1, 10_001)], "", (), "u")
    assert noted(equal)["parts"] == f"{8 << 20}*10000"
    assert read_notes(noted(equal)) == equal
    different = kept_of_parts([Part(n, "", n) for n in range(1, 10_001)], "", (), "u")
    assert noted(different)["parts"] == "?10000"
    assert (read_notes(noted(different)).parts, read_notes(noted(different)).part_sizes) == (10_000, ())


def test_checksums_that_do_not_fit_leave_the_sizes() -> None:
    parts = [Part(n, "", 5, checksums=(("sha256", base64.b64encode(bytes(32)).decode()),)) for n in range(1, 101)]
    kept = read_notes(noted(kept_of_parts(parts, "sha256", (), "u")))
    assert (kept.part_sizes, kept.part_checksums) == ((5,) * 100, ())
    assert read_notes({}) == NOTHING


def test_a_fingerprint_tells_uploads_and_parts_apart() -> None:
    one, two = Part(1, "aa"), Part(2, "bb")
    assert len({fingerprint("x", parts) for parts in ((one,), (one, two), (two,), ())} | {fingerprint("y", (one,))}) == 5
