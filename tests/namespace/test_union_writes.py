"""A union is written to one of its members, and never brings back or hides what another has."""

from __future__ import annotations

import pytest

from headrace.model.errors import ConditionFailed, Conflict, NotFound, Unavailable
from headrace.model.objects import ByteRange
from headrace.model.uploads import MIN_PART_BYTES
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.namespace.union import UnionStore
from headrace.stores.contract import StoreContract, read_all
from headrace.stores.contract_writing import WritingContract
from headrace.stores.faulty import Fault, FaultyStore
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store


class TestUnionStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return UnionStore((MemoryStore(), self.memory, MemoryStore()), write_target=1)

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


class Layers:
    """Three members, the one in the middle written to."""

    def __init__(self) -> None:
        self.above, self.target, self.below = MemoryStore(), MemoryStore(), MemoryStore()
        self.union = UnionStore((self.above, self.target, self.below), write_target=1)


async def test_a_write_covers_what_a_member_behind_the_target_has() -> None:
    layers = Layers()
    layers.below.put("k", b"lower")
    await layers.union.write("k", BytesBody(b"new"))
    assert await read_all(layers.union, "k") == b"new"
    assert layers.below.body("k") == b"lower"


async def test_a_write_that_would_not_be_seen_is_refused() -> None:
    layers = Layers()
    info = layers.above.put("k", b"upper")
    source = await layers.union.write("source", BytesBody(b"x"))
    upload = await layers.union.multipart().begin("k")
    part = await layers.union.multipart().put(upload, 1, BytesBody(b"x"))
    for call in (
        layers.union.write("k", BytesBody(b"new")),
        layers.union.write("k", BytesBody(b"new"), condition=Condition(if_match=info.etag)),
        layers.union.copy(source, "k"),
        layers.union.multipart().complete(upload, (part,)),
        layers.union.delete("k"),
        layers.union.set_tags("k", (("a", "1"),)),
    ):
        with pytest.raises(Conflict, match="member 1"):
            await call
    assert await read_all(layers.union, "k") == b"upper"
    with pytest.raises(NotFound):
        await layers.target.info("k")


@pytest.mark.parametrize("also_in_target", [False, True])
async def test_a_removal_that_would_bring_back_a_lower_object_is_refused(also_in_target: bool) -> None:
    layers = Layers()
    layers.below.put("k", b"lower")
    if also_in_target:
        layers.target.put("k", b"shown")
    before = await read_all(layers.union, "k")
    with pytest.raises(Conflict, match="member 3"):
        await layers.union.delete("k")
    assert await read_all(layers.union, "k") == before


async def test_what_only_the_target_has_is_removed() -> None:
    layers = Layers()
    layers.target.put("k", b"x")
    await layers.union.delete("k")
    await layers.union.delete("k")
    with pytest.raises(NotFound):
        await layers.union.info("k")


async def test_a_condition_is_about_what_the_union_shows() -> None:
    layers = Layers()
    lower = layers.below.put("k", b"lower")
    for unmet in (Condition(if_none_match="*"), Condition(if_match="0" * 32), Condition(if_none_match=lower.etag)):
        with pytest.raises(ConditionFailed):
            await layers.union.write("k", BytesBody(b"new"), condition=unmet)
    with pytest.raises(NotFound):
        await layers.target.info("k")
    await layers.union.write("k", BytesBody(b"new"), condition=Condition(if_match=lower.etag))
    with pytest.raises(ConditionFailed):
        await layers.union.write("k", BytesBody(b"newer"), condition=Condition(if_match=lower.etag))
    assert await read_all(layers.union, "k") == b"new"


async def test_a_copy_out_of_another_member_keeps_its_attributes() -> None:
    layers = Layers()
    source = layers.below.put("a", b"lower", content_type="text/css", tags=(("t", "1"),))
    await layers.union.copy(source, "b")
    assert layers.target.body("b") == b"lower"
    assert (await layers.target.info("b")).content_type == "text/css"
    assert await layers.target.tags("b") == (("t", "1"),)
    await layers.union.copy(source, "c", Attributes(content_type="text/plain"))
    assert (await layers.target.info("c")).content_type == "text/plain"


async def test_a_part_is_copied_out_of_another_member() -> None:
    layers = Layers()
    source = layers.below.put("a", b"0123456789")
    uploads = layers.union.multipart()
    upload = await uploads.begin("b")
    part = await uploads.copy(upload, 1, source, ByteRange(2, 5))
    await uploads.complete(upload, (part,))
    assert layers.target.body("b") == b"234"


async def test_parts_are_told_by_the_member_whose_object_is_shown() -> None:
    layers = Layers()
    for member, sizes in ((layers.below, (MIN_PART_BYTES, 3)), (layers.target, (4,))):
        uploads = member.multipart()
        upload = await uploads.begin("a")
        parts = [await uploads.put(upload, number, BytesBody(b"x" * size)) for number, size in enumerate(sizes, 1)]
        await uploads.complete(upload, tuple(parts))
        found = await layers.union.multipart().parts_of(await layers.union.info("a"))
        assert [part.size for part in found] == list(sizes)


async def test_a_member_that_cannot_be_asked_ends_the_write() -> None:
    layers = Layers()
    away = FaultyStore(layers.below, [Fault(verb="info", times=-1, error=Unavailable("away"))])
    layers.target.put("k", b"shown")
    union = UnionStore((layers.above, layers.target, away), write_target=1)
    with pytest.raises(Unavailable):
        await union.delete("k")
    assert layers.target.body("k") == b"shown"
    with pytest.raises(Unavailable):
        await union.write("new", BytesBody(b"x"), condition=Condition(if_none_match="*"))
    assert away.injected
