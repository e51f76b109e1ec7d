import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import NoSuchUpload
from headrace.model.uploads import Upload
from headrace.stores.upload_notes import NAMES, check_id, new_upload, noted_upload, read_claim, read_upload

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(KEYS, st.sampled_from([("", ""), ("crc32c", "COMPOSITE"), ("sha256", "COMPOSITE")]), st.integers(0, 2**40))
def test_what_is_noted_of_an_upload_is_read_again(key: str, checksum: tuple[str, str], claim_ms: int) -> None:
    upload = new_upload(key, 1.75e9, *checksum)
    check_id(upload)
    texts = noted_upload(upload, str(claim_ms))
    assert all(text.isascii() and text.isprintable() for text in texts.values())
    assert read_upload(f".headrace/uploads/{upload.id}", texts) == upload
    assert read_claim(texts) == claim_ms / 1e3
    assert read_claim(noted_upload(upload)) == 0


@given(st.text(max_size=60), st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40)))
def test_what_another_wrote_there_describes_no_upload(name: str, texts: dict[str, str]) -> None:
    assert read_upload(name, texts) is None
    assert read_claim(texts) >= 0


def test_ids_sort_by_their_uploads_beginnings() -> None:
    ids = [new_upload("k", now_s, "", "").id for now_s in (1.0, 1.001, 2.0, 1.75e9)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("upload_id", ["", "../x", "0" * 47, "0" * 49, "G" * 48, "0" * 48 + "\n"])
def test_what_no_upload_is_called_is_not_looked_for(upload_id: str) -> None:
    with pytest.raises(NoSuchUpload):
        check_id(Upload("k", upload_id))
