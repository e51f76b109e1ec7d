"""What stands at the path of a mount that cannot be built: it answers for the path, and says why it has no answer."""

from __future__ import annotations

from typing import NoReturn

from headrace.model.errors import HeadraceError, ResidencyRefused, Unavailable
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store


class UnservedStore(Store):
    """Every verb raises `ResidencyRefused` or `Unavailable`: nothing is known of what lies there, least of all that it is absent.

    Were there no mount at its path, the one above would answer in its place: with other bytes, under other rights.
    """

    def __init__(self, path: str, error: HeadraceError) -> None:
        self._path = path
        self.error = error

    async def info(self, key: str) -> ObjectInfo:
        self._refuse(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:  # noqa: ARG002
        self._refuse(key)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:  # noqa: ARG002
        self._refuse(prefix)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        self._refuse(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:  # noqa: ARG002
        self._refuse(info.key)

    async def write(
        self,
        key: str,
        body: Body,  # noqa: ARG002
        attributes: Attributes = PLAIN,  # noqa: ARG002
        *,
        condition: Condition = ALWAYS,  # noqa: ARG002
    ) -> ObjectInfo:
        self._refuse(key)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:  # noqa: ARG002
        self._refuse(key)

    async def set_tags(self, key: str, tags: Pairs) -> None:  # noqa: ARG002
        self._refuse(key)

    def multipart(self) -> Multipart:
        self._refuse("")

    def buckets(self) -> Buckets:
        self._refuse("")

    def _refuse(self, key: str) -> NoReturn:
        kind = ResidencyRefused if isinstance(self.error, ResidencyRefused) else Unavailable
        raise kind(f"{self._path} is not served: {self.error}", path=key) from self.error
