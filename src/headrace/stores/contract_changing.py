"""The part of the suite for stores that take writes that is about deleting, copying and tags."""
# ruff: noqa: S101 - a test suite asserts

from __future__ import annotations

import asyncio

import pytest

from headrace.model.errors import ConditionFailed, Conflict, NotFound, Unsupported, VersionChanged
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_tools import ATTRIBUTES, OTHER_ETAG, PIECE, WritingHooks, agree
from headrace.stores.store import Store


class DeleteContract(WritingHooks):
    """Objects go away, and nothing else does."""

    async def test_a_deleted_object_is_gone_at_once_for_every_verb(self, store: Store) -> None:
        await store.write("d/a", BytesBody(b"x"))
        await store.write("d/b", BytesBody(b"y"))
        await store.delete("d/a")
        for verb in (store.info, store.read, store.tags):
            with pytest.raises(NotFound):
                await verb("d/a")
        assert [entry.key for entry in (await store.list()).entries] == ["d/b"]
        assert await read_all(store, "d/b") == b"y"

    async def test_deleting_what_is_not_there_is_no_error(self, store: Store) -> None:
        await store.delete("absent")
        await store.delete("absent/below")
        await store.write("a", BytesBody(b"x"))
        await store.delete("a")
        await store.delete("a")
        await store.delete("a/b")
        assert (await store.list()).entries == ()

    async def test_what_was_deleted_may_be_written_again(self, store: Store) -> None:
        for turn in range(5):
            body = f"turn {turn}".encode()
            await store.write("d/e/a", BytesBody(body))
            assert await read_all(store, "d/e/a") == body
            await store.delete("d/e/a")
        assert (await store.list()).entries == ()

    async def test_a_delete_obeys_its_condition(self, store: Store) -> None:
        info = await store.write("a", BytesBody(b"x"))
        wrong, right = Condition(if_match=OTHER_ETAG), Condition(if_match=info.etag)
        with pytest.raises(ConditionFailed if self.takes("delete", wrong) else Unsupported):
            await store.delete("a", condition=wrong)
        await agree(store, "a", b"x")
        if not self.takes("delete", right):
            return
        await store.delete("a", condition=right)
        with pytest.raises(NotFound):
            await store.info("a")
        with pytest.raises((NotFound, ConditionFailed)):
            await store.delete("a", condition=right)

    async def test_of_deleters_and_writers_of_one_version_one_wins(self, store: Store) -> None:
        info = await store.write("d/a", BytesBody(b"base"))
        condition = Condition(if_match=info.etag)
        if not self.settles_races or not self.takes("delete", condition) or not self.takes("write", condition):
            pytest.skip("this store cannot settle a race of conditional changes")
        answers = await asyncio.gather(
            *(store.delete("d/a", condition=condition) for _ in range(8)),
            *(store.write("d/a", BytesBody(b"new"), condition=condition) for _ in range(8)),
            return_exceptions=True,
        )
        won = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(won) == 1, answers
        assert all(isinstance(a, (NotFound, ConditionFailed, Conflict)) for a in answers if isinstance(a, BaseException)), answers
        if isinstance(won[0], ObjectInfo):
            await agree(store, "d/a", b"new")
        else:
            assert (await store.list()).entries == ()

    async def test_deletes_beside_writes_in_one_prefix_lose_nothing(self, store: Store) -> None:
        async def turns(name: str) -> None:
            for turn in range(10):
                await store.write(f"d/e/f/{name}", BytesBody(f"{name}{turn}".encode()))
                await store.delete(f"d/e/f/{name}")
            await store.write(f"d/e/f/{name}", BytesBody(name.encode()))

        await asyncio.gather(*(turns(name) for name in "abcdef"))
        assert [entry.key for entry in (await store.list()).entries] == [f"d/e/f/{name}" for name in "abcdef"]
        for name in "abcdef":
            assert await read_all(store, f"d/e/f/{name}") == name.encode()


class CopyContract(WritingHooks):
    """The bytes of one version under another key."""

    async def test_a_copy_keeps_bytes_and_attributes(self, store: Store) -> None:
        source = await store.write("a.txt", BytesBody(PIECE), ATTRIBUTES)
        told = await store.copy(source, "deep/b.bin")
        info = await agree(store, "deep/b.bin", PIECE)
        assert (told.key, told.version) == (info.key, info.version)
        if self.keeps_attributes:
            assert info.content_type == ATTRIBUTES.content_type
            assert sorted(info.headers) == list(ATTRIBUTES.headers)
            assert sorted(info.metadata) == list(ATTRIBUTES.metadata)
        if self.keeps_tags:
            assert await store.tags("deep/b.bin") == ATTRIBUTES.tags
        await agree(store, "a.txt", PIECE)

    async def test_a_copy_may_get_other_attributes(self, store: Store) -> None:
        source = await store.write("a", BytesBody(PIECE), ATTRIBUTES)
        await store.copy(source, "b", Attributes(content_type="image/png", metadata=(("new", "1"),)))
        info = await agree(store, "b", PIECE)
        if self.keeps_attributes:
            assert (info.content_type, info.metadata) == ("image/png", (("new", "1"),))
        assert await store.tags("b") == ()

    async def test_a_copy_onto_itself_changes_its_attributes(self, store: Store) -> None:
        source = await store.write("a", BytesBody(PIECE), ATTRIBUTES)
        await store.copy(source, "a", Attributes(content_type="image/png"))
        info = await agree(store, "a", PIECE)
        if self.keeps_attributes:
            assert (info.content_type, info.metadata) == ("image/png", ())

    async def test_a_copy_takes_the_place_of_an_object(self, store: Store) -> None:
        source = await store.write("a", BytesBody(b"new"))
        await store.write("b", BytesBody(b"old and longer"), ATTRIBUTES)
        await store.copy(source, "b")
        await agree(store, "b", b"new")
        empty = await store.write("empty", BytesBody(b""))
        await store.copy(empty, "b")
        await agree(store, "b", b"")

    async def test_a_source_that_changed_is_not_copied(self, store: Store) -> None:
        source = await store.write("a", BytesBody(b"one"))
        await store.write("a", BytesBody(b"two"))
        with pytest.raises(VersionChanged):
            await store.copy(source, "b")
        await store.delete("a")
        with pytest.raises((NotFound, VersionChanged)):
            await store.copy(source, "b")
        assert (await store.list()).entries == ()
        assert list(await self.left_behind()) == []

    async def test_a_copy_obeys_its_condition(self, store: Store) -> None:
        source = await store.write("a", BytesBody(b"new"))
        there = await store.write("b", BytesBody(b"old"))
        absent, other, right = Condition(if_none_match="*"), Condition(if_match=OTHER_ETAG), Condition(if_match=there.etag)
        for condition in (absent, other):
            with pytest.raises(ConditionFailed if self.takes("copy", condition) else Unsupported):
                await store.copy(source, "b", condition=condition)
            await agree(store, "b", b"old")
        for condition, key in ((absent, "c"), (right, "b")):
            if self.takes("copy", condition):
                await store.copy(source, key, condition=condition)
                await agree(store, key, b"new")


class TagsContract(WritingHooks):
    """Tags change without the object."""

    async def test_tags_are_put_in_place_of_the_old(self, store: Store) -> None:
        before = await store.write("d/a", BytesBody(b"x"), ATTRIBUTES)
        if not self.keeps_tags:
            with pytest.raises(Unsupported):
                await store.set_tags("d/a", (("a", "1"),))
            return
        for tags in ((("z", "26"), ("b", "2")), (), (("ü", "ö"),)):
            await store.set_tags("d/a", tags)
            assert await store.tags("d/a") == tuple(sorted(tags))
            assert (await store.info("d/a")).tag_count == len(tags)
            reading = await store.read("d/a")
            await reading.aclose()
            assert reading.info.tag_count == len(tags)
        after = await agree(store, "d/a", b"x")
        assert after.version == before.version
        if self.keeps_attributes:
            assert after.content_type == ATTRIBUTES.content_type

    async def test_tags_of_nothing_are_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound if self.keeps_tags else Unsupported):
            await store.set_tags("absent", (("a", "1"),))


class ChangingContract(DeleteContract, CopyContract, TagsContract):
    """Everything that changes objects besides writing them."""
