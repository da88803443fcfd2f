"""The databases that this instance created recently. For them a row of the list of databases is no news."""

from collections import OrderedDict
from typing import Final

# The row usually arrives within seconds. If it arrives after this time, the database is looked at, which is harmless.
_REMEMBERED_SECONDS: Final = 60.0


class Creations:
    """Remembers creations by the caller's monotonic clock, in seconds. Not thread-safe; the owner has a lock."""

    def __init__(self) -> None:
        self._made: OrderedDict[str, float] = OrderedDict()

    def note(self, document_id: str, now: float) -> None:
        """Note that the database of a user document was created here."""
        self._made[document_id] = now
        self._made.move_to_end(document_id)
        while now - next(iter(self._made.values())) > _REMEMBERED_SECONDS:
            self._made.popitem(last=False)

    def includes(self, document_id: str, now: float) -> bool:
        """Say whether the database of a user document was created here a moment ago."""
        made_at = self._made.get(document_id)
        return made_at is not None and now - made_at <= _REMEMBERED_SECONDS
