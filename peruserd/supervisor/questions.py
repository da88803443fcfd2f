"""Questions that another thread asks listeners, and the answers, which the supervisor's loop hears and passes on."""

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from peruserd.core.inquiries import Inquiry, InquiryPage, KeptUser
from peruserd.core.views import Copy

# A listener answers between two saves; one that does not in this time is busy with a disk that hangs, or is gone.
_PATIENCE_SECONDS: Final = 10.0


class NotAnsweredError(Exception):
    """A listener that was asked did not answer in time."""


class Questions:
    """Asks listeners, one page after the other. `send` hands a question to a listener; any thread may ask."""

    def __init__(self, send: Callable[[Copy, Inquiry], None], *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._send = send
        self._patience = patience_seconds
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._open: dict[int, queue.SimpleQueue[InquiryPage]] = {}

    def ask(self, copy: Copy, inquiry: Inquiry) -> Iterator[KeptUser]:
        """Return the users that a listener answers with, from all pages; raises NotAnsweredError."""
        while True:
            page = self._page(copy, msgspec.structs.replace(inquiry, number=next(self._numbers)))
            yield from page.users
            if not page.more or not page.users:
                return
            inquiry = msgspec.structs.replace(inquiry, after=page.users[-1].document)

    def answered(self, page: InquiryPage) -> None:
        """Take in an answer; one that nobody waits for any more is dropped."""
        with self._lock:
            waiting = self._open.get(page.number)
        if waiting is not None:
            waiting.put(page)

    def _page(self, copy: Copy, inquiry: Inquiry) -> InquiryPage:
        answers: queue.SimpleQueue[InquiryPage] = queue.SimpleQueue()
        with self._lock:
            self._open[inquiry.number] = answers
        try:
            self._send(copy, inquiry)
            return answers.get(timeout=self._patience)
        except queue.Empty:
            raise NotAnsweredError(f"the listener of {copy} does not answer") from None
        finally:
            with self._lock:
                del self._open[inquiry.number]
