"""Carries out an operator's orders about deletions: writes words and the pause into the journal, for all instances."""

import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import structlog

from peruserd.core.common.names import UnservableNameError, database_name
from peruserd.core.deletions.journal import Entry, Kind, Pause, PauseReason, Saying, Word
from peruserd.core.processes.control import (
    MAX_USERS,
    Answer,
    DeletionOrder,
    Done,
    Noted,
    PauseAll,
    Progress,
    Refused,
    ResumeAll,
    ResumeOnly,
    Say,
    Unknown,
)
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import CouchError, NotFoundError

# The kinds of entries that each word applies to. A return is never held, because it waits for a word anyway.
_ABOUT: Final = {
    Word.CANCEL: (Kind.DELETION,),
    Word.HOLD: (Kind.DELETION,),
    Word.NOTHING: (Kind.DELETION,),
    Word.RELEASE: (Kind.RETURN,),
    Word.DROP_NOW: (Kind.DELETION, Kind.RETURN),
}

_PAUSED: Final = "all drops are paused; what was said takes effect after `peruserd deletions resume`"

# The least time between two answers about progress; a person could not read them more often.
_PROGRESS_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Operator:
    """Carries out orders, also several at once. `on_change` is called after each order."""

    def __init__(
        self,
        journal: DeletionJournal,
        *,
        prefix: str,
        instance: Callable[[], str],
        on_change: Callable[[], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._prefix = prefix
        self._instance = instance
        self._on_change = on_change
        self._wall_clock = wall_clock

    def carry_out(self, order: DeletionOrder, uid: int) -> Iterator[Answer]:
        """Carry out an order of the user with this id; the last answer says how it ended."""
        try:
            yield from self._carried_out(order, uid)
        except CouchError as error:
            if isinstance(error, NotFoundError) and error.is_of_database:
                yield Refused(f"there is no database {self._journal.database} yet, so nothing waits: {error}")
            else:
                yield Refused(f"the journal cannot be read or written now: {error}")
        self._on_change()

    def _carried_out(self, order: DeletionOrder, uid: int) -> Iterator[Answer]:
        match order:
            case PauseAll():
                self._journal.set_pause(
                    Pause(paused=True, why=PauseReason.OPERATOR, at=self._wall_clock(), instance=self._instance())
                )
                self._audit("pause", uid)
                yield Done()
            case ResumeAll():
                now = self._wall_clock()
                self._journal.set_pause(Pause(at=now, resumed_at=now, instance=self._instance()))
                self._audit("resume", uid)
                yield Done()
            case ResumeOnly(users) | Say(users=users) if len(users) > MAX_USERS:
                yield Refused(f"no more than {MAX_USERS} users can be named at once", again=False)
            case ResumeOnly(users):
                yield from self._each(users, (Kind.DELETION, Kind.RETURN), "resume", _resumed, uid)
                yield Done()
            case Say(word, users):
                yield from self._each(users, _ABOUT[word], word.value, lambda said: _worded(said, word), uid)
                yield Done(_PAUSED if word is Word.DROP_NOW and self._journal.pause().paused else "")

    def _each(
        self, users: tuple[str, ...], kinds: tuple[Kind, ...], action: str, edit: Callable[[Saying], Saying], uid: int
    ) -> Iterator[Answer]:
        shown_at = time.monotonic()
        for done, user in enumerate(users):
            if time.monotonic() - shown_at > _PROGRESS_SECONDS:
                shown_at = time.monotonic()
                yield Progress(done, len(users))
            yield from self._one(user, kinds, action, edit, uid)

    def _one(
        self, user: str, kinds: tuple[Kind, ...], action: str, edit: Callable[[Saying], Saying], uid: int
    ) -> Iterator[Answer]:
        try:
            database = database_name(self._prefix, user)
        except UnservableNameError as error:
            yield Unknown(user, str(error))
            return
        found = [each for kind in kinds for each in self._journal.entries(kind, database) if each.is_open]
        if not found:
            yield Unknown(user, "nothing waits that this could be said of")
        for entry in found:
            self._journal.say(entry.id, self._signed(edit, uid))
            self._audit(action, uid, entry)
            yield Noted(user, entry.id, entry.database)

    def _signed(self, edit: Callable[[Saying], Saying], uid: int) -> Callable[[Saying], Saying]:
        now = self._wall_clock()
        return lambda said: msgspec.structs.replace(edit(said), at=now, by=uid)

    def _audit(self, action: str, uid: int, entry: Entry | None = None) -> None:
        log.info(
            "audit",
            action=action,
            database=None if entry is None else entry.database,
            document=None if entry is None else entry.document,
            why=f"the operator's word, by the user with the id {uid}",
            sequence=None if entry is None else entry.sequence,
            revision=None if entry is None else entry.revision,
        )


def _worded(said: Saying, word: Word) -> Saying:
    return msgspec.structs.replace(said, word=word)


def _resumed(said: Saying) -> Saying:
    """Let an entry pass the pause; this also ends a hold of that entry."""
    word = Word.NOTHING if said.word is Word.HOLD else said.word
    return msgspec.structs.replace(said, word=word, resumed=True)
