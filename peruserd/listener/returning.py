"""Users who come back to a database that was there and is nobody's, in the journal: the operator says who is let in."""

from peruserd.core.deletions.journal import Ending, Entry, Kind, Saying, State, Word, entry_id
from peruserd.couch.errors import NotFoundError
from peruserd.listener.dropping import Tools


def note_return(tools: Tools, document_id: str, database: str, instance: str) -> tuple[Entry | None, bool]:
    """Note that a user came back, and return the entry and whether the operator has said to let the user in.

    There is no entry where there is no such database. Raises CouchError.
    """
    suffix = tools.grounds.suffix(database)
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
        # A word that was said of an earlier return says nothing of this one.
        tools.journal.say(noted.id, lambda _: Saying(at=now))
    entry = tools.journal.change(noted.id, lambda found: None if found is not None and found.is_open else noted)
    return entry or noted, tools.journal.saying(noted.id).word is Word.RELEASE


def end_return(tools: Tools, database: str) -> bool:
    """End the entry of a user who came back and was deleted again, and say whether there is one; raises CouchError."""
    suffix = tools.grounds.suffix(database)
    if suffix is None:
        return False
    now = tools.wall_clock()

    def ended(known: Entry | None) -> Entry | None:
        # A drop that was begun has a reservation, which the look at it gives back.
        return None if known is None or known.state is not State.WAITING else known.ended(Ending.SUPERSEDED, now)

    try:
        return tools.journal.change(entry_id(Kind.RETURN, database, suffix), ended) is not None
    except NotFoundError:
        # Where there is no journal, nobody's word is in it.
        return False
