"""Questions that another thread asks listeners, and the answers, which the supervisor's loop hears and passes on.

Everybody who reaches the HTTP page can cause questions, and a listener that takes nothing off its pipe is killed. So no
listener is asked again that owes too many answers.
"""

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from peruserd.core.cluster.views import Copy
from peruserd.core.users.inquiries import Inquiry, InquiryPage, KeptUser, Wish

# A listener answers between two saves; one that does not in this time is busy with a disk that hangs, or is gone.
_PATIENCE_SECONDS: Final = 10.0

# Somebody waits at the HTTP page who learns no more by a longer wait.
_BRIEF_SECONDS: Final = 2.0

# Few and short enough for any pipe; a listener that is well owes none for longer than a moment.
_MAX_OWED: Final = 8


class NotAnsweredError(Exception):
    """A listener that was asked did not answer in time, or owes too many answers already."""


class Questions:
    """Asks listeners, one page after the other. `send` hands a question to a listener; any thread may ask."""

    def __init__(
        self,
        send: Callable[[Copy, Inquiry], None],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        brief_seconds: float = _BRIEF_SECONDS,
    ) -> None:
        self._send = send
        self._patience = patience_seconds
        self._brief = brief_seconds
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._open: dict[int, queue.SimpleQueue[InquiryPage]] = {}
        # The numbers of the questions to which a listener owes the answer, whether or not anybody waits for it still.
        self._owed: dict[Copy, set[int]] = {}

    def ask(self, copy: Copy, inquiry: Inquiry) -> Iterator[KeptUser]:
        """Return the users that a listener answers with, from all pages; raises NotAnsweredError."""
        while True:
            page = self._page(copy, inquiry, self._patience)
            yield from page.users
            if not page.more or not page.users:
                return
            inquiry = msgspec.structs.replace(inquiry, after=page.users[-1].document)

    def kept(self, copies: Iterable[Copy], document_id: str) -> KeptUser | None:
        """Return what the first listener says that keeps a user in quarantine; None where none says so in time."""
        for copy in copies:
            try:
                page = self._page(copy, Inquiry(0, Wish.LIST, (document_id,)), self._brief)
            except NotAnsweredError:
                continue
            if page.users:
                return page.users[0]
        return None

    def answered(self, copy: Copy, page: InquiryPage) -> None:
        """Take in an answer; one that nobody waits for any more is dropped."""
        with self._lock:
            self._owed.get(copy, set()).discard(page.number)
            waiting = self._open.get(page.number)
        if waiting is not None:
            waiting.put(page)

    def ended(self, copy: Copy) -> None:
        """Note that the process of a listener is gone, which answers no more."""
        with self._lock:
            self._owed.pop(copy, None)

    def _page(self, copy: Copy, inquiry: Inquiry, patience_seconds: float) -> InquiryPage:
        answers: queue.SimpleQueue[InquiryPage] = queue.SimpleQueue()
        with self._lock:
            owed = self._owed.setdefault(copy, set())
            if len(owed) >= _MAX_OWED:
                raise NotAnsweredError(f"the listener of {copy} owes {len(owed)} answers")
            number = next(self._numbers)
            owed.add(number)
            self._open[number] = answers
        try:
            self._send(copy, msgspec.structs.replace(inquiry, number=number))
            return answers.get(timeout=patience_seconds)
        except queue.Empty:
            raise NotAnsweredError(f"the listener of {copy} does not answer") from None
        finally:
            with self._lock:
                del self._open[number]
