"""Many small pieces of work in threads, never far ahead of what asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from headrace.model.errors import HeadraceError

T = TypeVar("T")


def run_all(
    jobs: Iterable[tuple[str, Callable[[], T]]],
    done: Callable[[T], None],
    failed: Callable[[str, Exception], None],
    *,
    parallel: int,
) -> None:
    """Run `(name, work)`, `parallel` at a time; errors of one do not keep the others from being done."""
    waiting: dict[Future[T], str] = {}

    def collect() -> None:
        ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in ended:
            name = waiting.pop(future)
            try:
                result = future.result()
            except (HeadraceError, OSError) as error:
                failed(name, error)
            else:
                done(result)

    pool = ThreadPoolExecutor(parallel, thread_name_prefix="many")
    try:
        for name, work in jobs:
            waiting[pool.submit(work)] = name
            if len(waiting) >= 2 * parallel:
                collect()
        while waiting:
            collect()
    finally:
        # After Ctrl-C nobody waits for what runs: it ends as soon as the client that it uses is closed.
        pool.shutdown(wait=not waiting, cancel_futures=True)
