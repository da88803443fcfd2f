"""A new deletion in the journal. Earlier words of the operator about the same database are kept."""

from peruserd.core.deletions.journal import Entry, Kind, Saying, can_keep, heeded, renews
from peruserd.couch.deletions import DeletionJournal


def note_deletion(journal: DeletionJournal, entry: Entry) -> Entry:
    """Write a deletion down, or return the one that is there; raises CouchError.

    The word is written first, so that no moment is without it. An entry that opens again loses its old word. Only a
    word that still holds stays (`heeded`).
    """
    known = list(journal.entries(Kind.DELETION, entry.database))
    same = next((each for each in known if each.id == entry.id), None)
    if same is not None and not renews(same, entry):
        return same
    # Each word takes a request, and a user who comes and goes can leave many ended entries.
    said = heeded(entry, ((each, journal.saying(each.id)) for each in known if can_keep(each, entry)))
    if same is not None or said is not None:
        journal.say(entry.id, lambda _: said or Saying())
    return journal.note(entry)
