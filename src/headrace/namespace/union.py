"""Several stores under one path: read in order, first hit wins; written to one of them."""

from __future__ import annotations

from headrace.model.errors import ConditionFailed, Conflict, NotFound
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.namespace.merge import Source, merge_listings
from headrace.stores.multipart import Multipart
from headrace.stores.parts import check_within
from headrace.stores.passing import PassingUploads
from headrace.stores.store import Store


class UnionStore(Store):
    """Reads from the first member that has the key.

    A member that cannot be asked ends the search with its error: were the next one read instead,
    an outage would bring back what the first one hides.

    Writes go to the write target. One that would not be seen, because a member before the target has the key, and a removal
    that would bring back what a member behind it has, are refused with `Conflict`; nothing is changed then. Conditions are about
    what the union shows: an object that only another member has is compared, and the target must have none at the moment of
    the write.
    """

    def __init__(self, members: tuple[Store, ...], *, write_target: int = 0) -> None:
        if not members:
            raise ValueError("a union needs at least one member")
        if not 0 <= write_target < len(members):
            raise ValueError(f"write_target {write_target} is not a member of the union")
        self.members = members
        self.write_target = members[write_target]
        self._above = members[:write_target]
        self._below = members[write_target + 1 :]

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        missing: NotFound | None = None
        for member in self.members:
            try:
                return member.peek(key, byte_range, files=files)
            except NotFound as error:
                missing = error
        raise missing or NotFound(f"{key} is in no member of the union", path=key)

    async def info(self, key: str) -> ObjectInfo:
        for member in self.members[:-1]:
            try:
                return await member.info(key)
            except NotFound:
                continue
        return await self.members[-1].info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        for member in self.members[:-1]:
            try:
                return await member.read(key, byte_range, version=version)
            except NotFound:
                continue
        return await self.members[-1].read(key, byte_range, version=version)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        def source(member: Store) -> Source:
            return Source(lambda start, count: member.list(prefix, delimiter=delimiter, after=start, limit=count))

        return await merge_listings([source(member) for member in self.members], after=after, limit=limit)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        for member in self.members[:-1]:
            try:
                return await member.tags(key)
            except NotFound:
                continue
        return await self.members[-1].tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        for member in self.members[:-1]:
            try:
                await member.info(info.key)
            except NotFound:
                continue
            return await member.part(info, number)
        return await self.members[-1].part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        return await self.write_target.write(key, body, attributes, condition=await self.target_condition(key, condition))

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        if await self.origin(source.key) is not self.write_target:
            return await super().copy(source, key, attributes, condition=condition)
        return await self.write_target.copy(source, key, attributes, condition=await self.target_condition(key, condition))

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        for member in (*self._above, *self._below):
            if await found_in(member, key) is not None:
                raise Conflict(f"{key!r} is also in {self._name(member)}, which would show it again: remove it there", path=key)
        await self.write_target.delete(key, condition=condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        origin = await self.origin(key)
        if origin is not self.write_target:
            raise Conflict(f"{key!r} is shown out of {self._name(origin)}, which is not written to: tag it there", path=key)
        await self.write_target.set_tags(key, tags)

    def multipart(self) -> UnionUploads:
        return UnionUploads(self.write_target.multipart(), self)

    async def origin(self, key: str) -> Store:
        """The member whose object is shown. Raises `NotFound`."""
        for member in self.members:
            if await found_in(member, key) is not None:
                return member
        raise NotFound(f"{key!r} is in no member of the union", path=key)

    async def target_condition(self, key: str, condition: Condition) -> Condition:
        """What the write target must obey so that `condition` holds of the union, as far as it depends on the target.

        Raises `ConditionFailed` and `NotFound` for what the other members decide, and `Conflict`.
        """
        for member in self._above:
            if await found_in(member, key) is not None:
                raise Conflict(f"{key!r} is in {self._name(member)}, which would hide what is written: write it there", path=key)
        if not condition or not self._below or await found_in(self.write_target, key) is not None:
            return condition
        shown = None
        for member in self._below:
            shown = shown or await found_in(member, key)
        if shown is None:
            return condition
        if not condition.holds(shown):
            raise ConditionFailed(f"{key!r} has the ETag {shown.etag!r} in another member of the union", path=key)
        return Condition(if_none_match="*")

    def _name(self, member: Store) -> str:
        return f"member {self.members.index(member) + 1} of the union"

    async def close(self) -> None:
        for member in self.members:
            await member.close()


class UnionUploads(PassingUploads):
    """Uploads of the write target, whose objects then show in the union."""

    def __init__(self, inner: Multipart, union: UnionStore) -> None:
        super().__init__(inner)
        self._union = union

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        if await self._union.origin(source.key) is self._union.write_target:
            return await self.inner.copy(upload, number, source, byte_range)
        check_within(byte_range, source)
        reading = await self._union.read(source.key, byte_range, version=source.version)
        return await self.inner.put(upload, number, ReadingBody(reading))

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        return await (await self._union.origin(info.key)).multipart().parts_of(info, after=after, limit=limit)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        wanted = await self._union.target_condition(upload.key, condition)
        return await self.inner.complete(upload, parts, condition=wanted, checksums=checksums)


async def found_in(member: Store, key: str) -> ObjectInfo | None:
    """The member's object, if it has one."""
    try:
        return await member.info(key)
    except NotFound:
        return None
