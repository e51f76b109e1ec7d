"""Several stores under one path: read in order, first hit wins."""

from __future__ import annotations

from headrace.model.errors import NotFound
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.namespace.merge import Source, merge_listings
from headrace.stores.store import Store


class UnionStore(Store):
    """Reads from the first member that has the key.

    A member that cannot be asked ends the search with its error: were the next one read instead,
    an outage would bring back what the first one hides.
    """

    def __init__(self, members: tuple[Store, ...], *, write_target: int = 0) -> None:
        if not members:
            raise ValueError("a union needs at least one member")
        if not 0 <= write_target < len(members):
            raise ValueError(f"write_target {write_target} is not a member of the union")
        self.members = members
        self.write_target = members[write_target]

    def peek(self, key: str, byte_range: ByteRange | None) -> Reading | None:
        missing: NotFound | None = None
        for member in self.members:
            try:
                return member.peek(key, byte_range)
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

    async def close(self) -> None:
        for member in self.members:
            await member.close()
