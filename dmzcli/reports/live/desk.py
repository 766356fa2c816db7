"""One worker for all requests: a short queue, and pages whose newest request makes their older ones void."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
WAITING = 8
"""Most requests that wait or are worked on."""
PAGES = 64
"""Pages whose newest request is remembered."""


class Busy(Exception):
    """The queue is full."""


class Superseded(Exception):
    """A newer request of the same page, or the end of the program, made this one void."""


class Ticket:
    """One request's right to go on."""

    def __init__(self) -> None:
        self._void = threading.Event()

    def cancel(self) -> None:
        """Makes it void."""
        self._void.set()

    def check(self) -> None:
        """Raises Superseded where it is void."""
        if self._void.is_set():
            raise Superseded


class Desk:
    """Does one thing at a time, in a thread of its own: a model and its memory are shared by nobody.

    Arguments:
        waiting: Most requests that wait or are worked on.
    """

    def __init__(self, waiting: int = WAITING) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="dmz-explore")
        self._lock = threading.Lock()
        self._most, self._taken, self._closed = waiting, 0, False
        self._newest: OrderedDict[str, Ticket] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Requests that wait or are worked on."""
        return self._taken

    def ticket(self, page: str) -> Ticket:
        """The ticket of a page's newest request; the one before is void from now on."""
        with self._lock:
            before = self._newest.pop(page, None)
            if before is not None:
                before.cancel()
            ticket = self._newest[page] = Ticket()
            if len(self._newest) > PAGES:
                self._newest.popitem(last=False)[1].cancel()
            if self._closed:
                ticket.cancel()
            return ticket

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queues work.

        Raises:
            Busy: The queue is full, or closed.
        """
        with self._lock:
            if self._closed or self._taken >= self._most:
                raise Busy
            self._taken += 1
        future = self._worker.submit(work)
        future.add_done_callback(self._done)
        return future

    def stop(self) -> None:
        """Takes nothing more, and voids what waits or is worked on, where it has a ticket."""
        with self._lock:
            self._closed = True
            for ticket in self._newest.values():
                ticket.cancel()

    def close(self) -> None:
        """The same, and waits until the worker has ended."""
        self.stop()
        self._worker.shutdown(cancel_futures=True)

    def _done(self, future: Future[T]) -> None:
        with self._lock:
            self._taken -= 1
