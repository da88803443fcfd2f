"""Questions from other threads to listeners. The supervisor's loop receives the answers and passes them on.

Every client of the HTTP page can cause questions, and a listener that does not read its pipe is killed. So a listener
that owes too many answers is asked nothing more.
"""

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from peruserd.core.cluster.views import Copy
from peruserd.core.users.inquiries import Inquiry, InquiryPage, KeptUser, QuarantineAction

# A listener answers between two saves. If it does not answer in this time, its disk hangs or it has ended.
_PATIENCE_SECONDS: Final = 10.0

# A client of the HTTP page waits meanwhile, and a longer wait would tell it nothing more.
_BRIEF_SECONDS: Final = 2.0

# So many short questions fit into any pipe. A healthy listener owes an answer only for a moment.
_MAX_OWED: Final = 8


class NotAnsweredError(Exception):
    """A listener did not answer in time, or owes too many answers already."""


class Questions:
    """Asks listeners and reads their answers page by page, from any thread. `send` sends a question to a listener."""

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
        # The numbers of a listener's unanswered questions, including those for which no thread waits any more.
        self._owed: dict[Copy, set[int]] = {}

    def ask(self, copy: Copy, inquiry: Inquiry) -> Iterator[KeptUser]:
        """Return the users in all pages of a listener's answer; raises NotAnsweredError."""
        while True:
            page = self._page(copy, inquiry, self._patience)
            yield from page.users
            if not page.more or not page.users:
                return
            inquiry = msgspec.structs.replace(inquiry, after=page.users[-1].document)

    def kept(self, copies: Iterable[Copy], document_id: str) -> KeptUser | None:
        """Return a user's quarantine entry from the first listener that has one; None if none says so in time."""
        for copy in copies:
            try:
                page = self._page(copy, Inquiry(0, QuarantineAction.LIST, (document_id,)), self._brief)
            except NotAnsweredError:
                continue
            if page.users:
                return page.users[0]
        return None

    def answered(self, copy: Copy, page: InquiryPage) -> None:
        """Pass an answer to the thread that waits for it; drop the answer if no thread does."""
        with self._lock:
            self._owed.get(copy, set()).discard(page.number)
            waiting = self._open.get(page.number)
        if waiting is not None:
            waiting.put(page)

    def ended(self, copy: Copy) -> None:
        """Note that a listener's process has ended, so it owes no answers."""
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
