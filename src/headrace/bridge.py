"""From blocking code into async code: one background event loop per process.

Everything the client side opens lives on this loop. A forked child gets a loop of its own at its
first call, and what the parent opened is left alone there; at exit what is still open is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_CLOSE_TIMEOUT_S = 2.0


class _Closes(Protocol):
    async def aclose(self) -> None: ...


class _LoopThread:
    """An event loop that runs in a daemon thread of the process that made it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.open: weakref.WeakSet[_Closes] = weakref.WeakSet()
        self.open_first: weakref.WeakSet[_Closes] = weakref.WeakSet()
        self.thread = threading.Thread(target=self._run, name="headrace-io", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def stop(self) -> None:
        if not self.thread.is_alive():
            return
        ending = asyncio.run_coroutine_threadsafe(self._wind_down(), self.loop)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            ending.result(_CLOSE_TIMEOUT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(_CLOSE_TIMEOUT_S)
        if not self.thread.is_alive():
            self.loop.close()

    async def _wind_down(self) -> None:
        for things in (self.open_first, self.open):
            await asyncio.gather(*(thing.aclose() for thing in tuple(things)), return_exceptions=True)
        mine = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not mine]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.current: _LoopThread | None = None
        self.ended = False
        self.parents: list[_LoopThread] = []


_state = _State()


def _forget_parent() -> None:
    """In a forked child: the parent's thread is not here. Its loop is kept unused, so that nothing of it is finalised."""
    _state.lock = threading.Lock()
    if _state.current is not None:
        _state.parents.append(_state.current)
    _state.current = None


def _shut_down() -> None:
    with _state.lock:
        current, _state.current, _state.ended = _state.current, None, True
    if current is not None:
        current.stop()


os.register_at_fork(after_in_child=_forget_parent)
atexit.register(_shut_down)


def _thread() -> _LoopThread:
    current = _state.current
    if current is not None:
        return current
    with _state.lock:
        if _state.ended or sys.is_finalizing():
            raise RuntimeError("Python is shutting down: Headrace can no longer be read")
        if _state.current is None:
            _state.current = _LoopThread()
        return _state.current


def loop() -> asyncio.AbstractEventLoop:
    """This process's loop, started when there is none yet."""
    return _thread().loop


def keep(thing: _Closes, *, first: bool = False) -> None:
    """Close `thing` at exit if it still lives then; `first`, before what it may need. It must belong to this process's loop."""
    (_thread().open_first if first else _thread().open).add(thing)


def drop(work: Coroutine[Any, Any, Any]) -> None:
    """Start `work` and wait for nothing, not even for it to begin: for finalisers, which may run when all is over."""
    with contextlib.suppress(RuntimeError):
        submit(work)


def submit(work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start `work` on the loop and return at once."""
    try:
        return asyncio.run_coroutine_threadsafe(work, loop())
    except RuntimeError:
        work.close()
        raise


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the loop and wait for it. Ctrl-C in the waiting thread cancels it.

    Raises `RuntimeError` when called from the loop itself, where waiting would never end.
    """
    if threading.current_thread() is _thread().thread:
        work.close()
        raise RuntimeError("a blocking Headrace call was made from Headrace's own event loop: await the async form instead")
    future = submit(work)
    try:
        return future.result()
    except BaseException:  # whatever it is: tidied up here, raised on
        future.cancel()
        raise


async def on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` from any event loop; it runs on ours."""
    if asyncio.get_running_loop() is loop():
        return await work
    return await asyncio.wrap_future(submit(work))
