"""Users who return to a database without an owner: the journal notes them, and the operator decides who is let in."""

from peruserd.core.deletions.journal import Ending, Entry, Kind, Saying, State, Word, entry_id
from peruserd.couch.errors import NotFoundError
from peruserd.listener.dropping import Tools


def note_return(tools: Tools, document_id: str, database: str, instance: str) -> tuple[Entry | None, bool]:
    """Note that a user came back; return the entry, and whether the operator has allowed the user in.

    Without such a database there is no entry. Raises CouchError.
    """
    suffix = tools.facts.suffix(database)
    if suffix is None:
        return None, False
    now = tools.wall_clock()
    noted = Entry(
        document=document_id,
        database=database,
        suffix=suffix,
        revision="",
        noted_at=now,
        due_at=now,
        instance=instance,
        kind=Kind.RETURN,
    )
    known = tools.journal.entry(noted.id)
    if known is not None and not known.is_open:
        # The operator's word on an earlier return does not hold for this one.
        tools.journal.say(noted.id, lambda _: Saying(at=now))
    entry = tools.journal.change(noted.id, lambda found: None if found is not None and found.is_open else noted)
    return entry or noted, tools.journal.saying(noted.id).word is Word.RELEASE


def end_return(tools: Tools, database: str) -> bool:
    """End the entry of a user who came back and was deleted again; say whether there was one; raises CouchError."""
    suffix = tools.facts.suffix(database)
    if suffix is None:
        return False
    now = tools.wall_clock()

    def ended(known: Entry | None) -> Entry | None:
        # A begun drop has a reservation, and the next look at it gives the reservation back.
        return None if known is None or known.state is not State.WAITING else known.ended(Ending.SUPERSEDED, now)

    try:
        return tools.journal.change(entry_id(Kind.RETURN, database, suffix), ended) is not None
    except NotFoundError:
        # Without a journal there is no entry.
        return False
