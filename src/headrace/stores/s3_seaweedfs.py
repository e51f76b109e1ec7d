"""What SeaweedFS does otherwise than S3: it keeps objects as files in directories.

Keys that are no clean paths are answered with the object of another key, and listings come in the
order of directories (`a/b` before `a-b`), so that `start-after` loses keys. Both must be undone here,
because neither shows in a single answer.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import groupby
from typing import cast

import msgspec

from headrace.model.errors import InvalidKey, Unavailable
from headrace.model.objects import CommonPrefix, Entry, Listing, ObjectInfo
from headrace.stores.http import Headers
from headrace.stores.s3_list_xml import ListPage

_MOST_KEYS = 1000
_SEEN_AGAIN = 9
"""So many keys up to `after` may be in an answer that begins before it."""
_FEW_KEYS = 16
"""Asked for first on a level where a page most likely goes on further below."""


def is_seaweedfs(headers: Headers) -> bool:
    """Whether an answer comes from SeaweedFS."""
    return headers.get("server", "").startswith("SeaweedFS")


def check_kept(key: str, size: int) -> None:
    """Raises `InvalidKey` for a key that SeaweedFS folds into another one. `dir/` is kept when it is an empty marker."""
    if not is_clean_path(key) or (key.endswith("/") and size > 0):
        raise InvalidKey(f"SeaweedFS cannot keep the key {key!r}: it would answer with another object", path=key)


def is_clean_path(key: str) -> bool:
    """Whether a path of a file system could be called so; a slash at the end is a directory's."""
    return "\\" not in key and not any(segment in ("", ".", "..") for segment in key.removesuffix("/").split("/"))


class SmallestEntries:
    """Of all entries of a listing in any order, the first `limit` behind `after` in key order. Bounded memory."""

    def __init__(self, prefix: str, after: str, limit: int) -> None:
        self._prefix = prefix
        self._after = after.encode()
        self._limit = limit
        self._entries: dict[bytes, Entry] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            encoded = entry.key.encode()
            if encoded > self._after and entry.key.startswith(self._prefix):
                self._entries[encoded] = entry
        if len(self._entries) > self._limit + 1:
            self._entries = {key: self._entries[key] for key in heapq.nsmallest(self._limit + 1, self._entries)}

    def listing(self) -> Listing:
        keys = sorted(self._entries)
        entries = tuple([self._entries[key] for key in keys[: self._limit]])
        return Listing(entries, entries[-1].key if len(keys) > self._limit and entries else None)


class Question(msgspec.Struct, frozen=True):
    """One ListObjectsV2 request. Strings that are empty are not sent."""

    prefix: str
    max_keys: int
    delimiter: str = ""
    start_after: str = ""
    token: str = ""


Ask = Callable[[Question], Awaitable[ListPage]]


class OutOfOrder(Exception):
    """A directory did not come in the order of its names; only seeing all of a listing tells its order."""


class _Below(msgspec.Struct, frozen=True):
    """All that lies below a directory (`key`, with its slash)."""

    key: str
    entries: tuple[Entry, ...]


_Step = ObjectInfo | CommonPrefix | _Below


class DirectoryWalk:
    """One page of a listing in key order, out of listings in the order of directories. Memory for a few pages.

    SeaweedFS sends a directory in the order of bare names (`a` with all below it, `a-b`, `a0`), where keys have `a/`
    between the last two. So a directory waits until a name arrives that sorts behind its slash; those that wait at one
    time are prefixes of each other, hence few. A directory of which one answer does not show the end is listed on its own.
    """

    def __init__(self, ask: Ask, prefix: str, delimiter: str, after: str, limit: int) -> None:
        """`delimiter` is `/` or empty."""
        self._ask = ask
        self._prefix = prefix
        self._delimiter = delimiter
        self._after = after
        self._limit = limit
        self._entries: list[Entry] = []

    async def listing(self) -> Listing:
        """Raises `OutOfOrder`, and what `ask` raises."""
        directory = self._prefix[: self._prefix.rfind("/") + 1]
        past = self._after > directory and not self._after.startswith(directory)
        if past or "\\" in self._prefix or (directory and not is_clean_path(directory)):
            return Listing(())
        levels = [self._level(directory, self._prefix)]
        while levels and len(self._entries) <= self._limit:
            step = await levels[-1].following()
            match step:
                case None:
                    levels.pop()
                case ObjectInfo():
                    self._entries.append(step)
                    self._entries += levels[-1].at_hand(self._limit + 1 - len(self._entries))
                case _Below():
                    self._entries += sorted(step.entries, key=_key)
                case CommonPrefix():
                    if step.key in levels[-1].guesses and not await self._is_there(step):
                        continue
                    if not self._delimiter:
                        levels.append(self._level(step.key, step.key))
                    elif step.key > self._after:
                        self._entries.append(step)
        entries = tuple(self._entries[: self._limit])
        return Listing(entries, entries[-1].key if entries and len(self._entries) > self._limit else None)

    def _level(self, directory: str, prefix: str) -> _Level:
        # One more than may be listed tells that something follows.
        wanted = min(_MOST_KEYS, self._limit + 1 - len(self._entries))
        return _Level(self._ask, directory, Question(prefix, wanted, delimiter=self._delimiter), self._after)

    async def _is_there(self, directory: CommonPrefix) -> bool:
        """Whether there is such a directory. To list one that is not takes the server as long as all names that begin like it."""
        if self._after.startswith(directory.key):
            return not self._delimiter  # what follows lies in it, if anything does, and rolled up it has been listed
        page = await self._ask(Question(directory.key[:-1], 2, delimiter="/"))  # an object of that name may come first
        return directory in page.entries


class _Level:
    """What one directory holds in key order, from where something behind `after` may lie."""

    def __init__(self, ask: Ask, directory: str, question: Question, after: str) -> None:
        """`question` asks for all of it, or for what begins with its prefix."""
        self._ask = ask
        self._directory = directory
        self._all = question
        self._after = after
        begun = after[len(directory) :] if after.startswith(directory) else ""
        self._first, inside, _ = begun.partition("/")
        # An answer that begins just before a name shows whether there is a directory of that name, too.
        self._seen_from = "" if inside else _stem(self._first)
        start = _just_before(self._seen_from)
        unseen = [name for name in _may_go_on(self._first) if not start or name < self._seen_from]
        self.guesses: set[str] = set()
        """Directories that may be there: nobody has seen them yet."""
        self._waiting: list[_Below | CommonPrefix] = [*self._guessed(unseen)]
        self._arrived: deque[_Step] = deque()
        self._last = ""
        self._question: Question | None = self._behind(self._first, _FEW_KEYS if inside else question.max_keys)
        if start:
            most = min(_MOST_KEYS, question.max_keys + _SEEN_AGAIN)
            self._question = msgspec.structs.replace(self._behind(start, most), max_keys=most)
        else:
            self._seen_from = ""

    async def following(self) -> _Step | None:
        """The next object, or directory whose turn it is, with all below it or without; None at the end."""
        while True:
            while not self._arrived and self._question is not None:
                await self._go_on(self._question)
            head = self._arrived[0] if self._arrived else None
            if self._waiting and (head is None or self._waiting[-1].key < head.key):
                return self._waiting.pop()
            if head is None:
                return None
            self._arrived.popleft()
            if isinstance(head, ObjectInfo):
                return head
            self._waiting.append(head)

    def at_hand(self, most: int) -> list[ObjectInfo]:
        """The objects that `following` would answer with next, as far as they are there: a call for each would be slower."""
        found: list[ObjectInfo] = []
        bound = self._waiting[-1].key if self._waiting else None
        while self._arrived and len(found) < most:
            head = self._arrived[0]
            if not isinstance(head, ObjectInfo) or (bound is not None and bound < head.key):
                break
            found.append(head)
            self._arrived.popleft()
        return found

    async def _go_on(self, question: Question) -> None:
        page = await self._ask(question)
        if not self._take_files(page, question):
            self._take(page, question)
        if self._seen_from and self._question is not None and self._last < self._first:
            # Too much lies before the name.
            self._seen_from = ""
            self._arrived.extend(self._guessed([name for name in _may_go_on(self._first) if name > self._last]))
            self._question = self._behind(self._first, self._all.max_keys)

    def _guessed(self, names: Iterable[str]) -> list[CommonPrefix]:
        found = [CommonPrefix(f"{self._directory}{name}/") for name in names]
        found = [guess for guess in found if guess.key[:-1].startswith(self._all.prefix)]
        self.guesses.update(guess.key for guess in found)
        return found

    def _take_files(self, page: ListPage, question: Question) -> bool:
        """Take a page of nothing but files of this directory in their order, as most are: `_take` in a tenth of the time."""
        keys = [entry.key for entry in page.entries]
        slashes = len(keys) * self._directory.count("/")
        if set(map(type, page.entries)) != {ObjectInfo} or keys != sorted(keys) or "\n".join(keys).count("/") != slashes:
            return False
        if not (keys[0].startswith(self._all.prefix) and keys[-1].startswith(self._all.prefix)):
            return False
        if keys[0][len(self._directory) :] < self._last or (page.truncated and page.token in ("", question.token)):
            return False
        behind = max(self._after, self._directory + self._first) if self._first else self._after
        self._arrived.extend(cast("tuple[ObjectInfo, ...]", page.entries)[bisect_right(keys, behind) :])
        self._last = keys[-1][len(self._directory) :]
        self._question = msgspec.structs.replace(self._all, token=page.token) if page.truncated else None
        return True

    def _take(self, page: ListPage, question: Question) -> None:
        prefix = self._all.prefix
        named = [(self._name(entry), entry) for entry in page.entries if entry.key.startswith(prefix)]
        for kind in (ObjectInfo, CommonPrefix):  # sent apart
            apart = [name for name, entry in named if isinstance(entry, kind)]
            if apart != sorted(apart) or (apart and apart[0] < self._last):
                raise OutOfOrder
        if page.truncated and (not page.token or page.token == question.token):
            raise Unavailable(f"listing {prefix!r} on SeaweedFS does not get ahead, try again", path=prefix)
        last, end = named[-1] if named else ("", None)
        cut = page.truncated and not self._all.delimiter and end is not None and end.key != self._directory + last
        self._last = max((name for name, _ in named), default=self._last)
        named.sort(key=lambda found: (found[0], found[1].key))
        for name, found in groupby(named, key=lambda found: found[0]):
            if not self._first or name > self._first or (self._seen_from and name >= self._seen_from):
                self._arrived.extend(self._steps(name, [entry for _, entry in found], cut=cut and name == last))
        if not page.truncated:
            self._question = None
        elif cut:
            # Below a directory that fills an answer the page most likely ends; of small ones there may be many.
            several = named[0][0] != last
            self._question = self._behind(last, 4 * question.max_keys if several else _FEW_KEYS)
        else:
            self._question = msgspec.structs.replace(self._all, token=page.token)

    def _steps(self, name: str, entries: list[Entry], *, cut: bool) -> Iterator[_Step]:
        """What the entries of one name are; `cut`: more of them follow."""
        below = f"{self._directory}{name}/"
        for entry in entries:
            if entry.key == self._directory + name and entry.key > self._after:
                yield entry
        inside = [entry for entry in entries if entry.key.startswith(below)]
        if not inside or (below <= self._after and not self._after.startswith(below)):
            return
        yield CommonPrefix(below) if cut or self._all.delimiter else _Below(below, tuple(inside))

    def _name(self, entry: Entry) -> str:
        return entry.key[len(self._directory) :].partition("/")[0]

    def _behind(self, name: str, most: int) -> Question:
        """What follows a name and all below it, and maybe more: the server reads back-slashes and dots as paths."""
        plain = name.partition("\\")[0]
        start = "" if plain in ("", ".", "..") else self._directory + plain
        return msgspec.structs.replace(self._all, start_after=start, max_keys=min(most, self._all.max_keys))


def _may_go_on(first: str) -> list[str]:
    """Names that `first` begins with, below which keys would follow `first`; the server, which goes by names, starts behind."""
    return [first[:end] for end in range(1, len(first) + 1) if end == len(first) or first[end] < "/"]


def _stem(name: str) -> str:
    """`stem` of `stem.ext`, between which there are few others: `stem/` follows `stem.ext` in key order. Else the name."""
    stem, _, extension = name.rpartition(".")
    return stem if stem and extension.isalpha() else name


def _just_before(name: str) -> str:
    """A name with next to nothing between it and `name`; empty where that cannot be written down simply."""
    if not name or not '"' < name[-1] <= "~":
        return ""
    last = ord(name[-1]) - 1
    # In ASCII: the server repeats it in its answer as it is, which the quick reading of listings would not take.
    return name[:-1] + chr(last - (chr(last) in "/\\")) + "~~~~"


def _key(entry: Entry) -> str:
    return entry.key
