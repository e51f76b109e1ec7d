"""The pages of a listing in their order, several of which are asked for at once where it can be guessed where they begin."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import NamedTuple

from headrace.model.objects import ObjectInfo
from headrace.stores.keys import PAGE_KEYS

PIECE_KEYS = 945
"""Objects up to the next guess. Fewer than in a page: some may be added before two pages are needed."""


class Page(NamedTuple):
    infos: list[ObjectInfo]
    after: str | None
    """The page tells of all keys up to this one, which need not be an object's; None: nothing follows."""


Ask = Callable[[str, int], Awaitable[Page]]
"""The page behind a key (empty: the first one) with at most so many objects."""


class _Piece(NamedTuple):
    end: str | None
    """Where the next one begins; None: it goes to the end of the listing."""
    page: asyncio.Future[Page]


async def pages(ask: Ask, ends: Iterable[str], at_once: int) -> AsyncGenerator[Page]:
    """All objects in order, as if one page were asked for after the other. Close it when it is left early.

    `ends` are guesses where pieces of `PIECE_KEYS` end, in order. None needs to be true: a wrong one costs a page.
    """
    guesses = iter(ends)
    pieces: deque[_Piece] = deque()
    begun: str | None = ""

    def piece(start: str, end: str | None) -> _Piece:
        most = PIECE_KEYS if end is None and at_once > 1 else PAGE_KEYS
        return _Piece(end, asyncio.ensure_future(ask(start, most)))

    def ask_ahead() -> None:
        nonlocal begun
        while begun is not None and len(pieces) < at_once:
            start = begun
            begun = next((guess for guess in guesses if guess > start), None) if at_once > 1 else None
            pieces.append(piece(start, begun))

    try:
        ask_ahead()
        while True:
            infos, after = await pieces[0].page
            end = pieces.popleft().end
            if after is None:
                yield Page(infos, None)
                return
            if end is None or after < end:
                pieces.appendleft(piece(after, end))
            else:
                while pieces and (following := pieces[0].end) is not None and following <= after:
                    _let_go(pieces.popleft())
                    end = following
                after = end
                infos = infos[: bisect_right(infos, end, key=_key)]
            ask_ahead()
            yield Page(infos, after)
    finally:
        left = tuple(pieces)
        for one in left:
            _let_go(one)
        await asyncio.gather(*[one.page for one in left], return_exceptions=True)


def _let_go(piece: _Piece) -> None:
    piece.page.cancel()
    # What went wrong with a page that nobody needs is nobody's concern.
    piece.page.add_done_callback(lambda page: None if page.cancelled() else page.exception())


def _key(info: ObjectInfo) -> str:
    return info.key
