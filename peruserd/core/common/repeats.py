"""Lines of the log that repeat: the first ones are written, and the rest of a minute becomes one line with its number.

A fault can come back a thousand times a second, for every user or on every try. Two lines are of the same *trouble* if
they have the same event, and words of an error that differ in numbers and users alone. They have the same *subject* if
all their texts agree. Values that are numbers do not count, because most of them differ each time. Within a minute:

- a subject is written once for each trouble;
- at most `SUBJECTS` subjects are written for each trouble;
- at most `TROUBLES_OF_EVENT` troubles of one event are told apart, and all others of it are one;
- everything else is counted, and said at the end of that minute.

Only warnings and errors are held back. All other lines say that something was done, and so does each line of the audit.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

SECONDS: Final = 60.0
"""How long a trouble is remembered, from its first line on."""

SUBJECTS: Final = 20
"""How many subjects of one trouble are written in that time."""

TROUBLES_OF_EVENT: Final = 20
"""How many troubles of one event are told apart in that time. Words of servers can differ each time."""

TROUBLES: Final = 256
"""How many troubles are remembered. Beyond that the oldest one is said and forgotten."""

REPEATED: Final = "repeated"
"""The field with the number of lines that were held back."""

_LEVELS: Final = frozenset({"warning", "error", "critical"})

# The words that tell one trouble from another. The rest of a line says whom or what it is about.
_EVENT: Final = ("level", "event")
_WORDS: Final = ("error", "kind", "why", "reason", "words")
_TOLD_APART: Final = (*_WORDS, "exception")

# Numbers, hashes, hex and ids of users differ although the trouble is the same.
_VARYING: Final = re.compile(r"org\.couchdb\.user(?::|%3A)\S*|#?[0-9a-f]*[0-9][0-9a-f]*", re.IGNORECASE)

# What names a user, or stands for one: an id, a hash, or else the hex of a database.
_USER: Final = re.compile(r"(org\.couchdb\.user(?::|%3A))\S*|#(?:[0-9a-f]{16})?", re.IGNORECASE)
_HEX: Final = re.compile(r"(?<=-)[0-9a-f]{8,}")

# Words of servers can be long. Their beginning tells them apart, and a little more is said.
_MAX_COMPARED: Final = 200
_MAX_SAID: Final = 2_000

Line = Mapping[str, object]


class _Trouble(msgspec.Struct):
    """A trouble since its first line, with that line's head."""

    ends_at: float
    head: dict[str, str]
    subjects: set[int]
    held_back: int = 0
    words_differ: bool = False

    def said(self) -> Line:
        """Return the line with the number. It names no user if the lines were about several."""
        head = {name: _without_users(text) for name, text in self.head.items()} if self.words_differ else self.head
        return {**head, REPEATED: self.held_back}


class Repeats:
    """Decides which lines are written. `now` is always of one monotonic clock, in seconds. Not thread-safe."""

    def __init__(self) -> None:
        self._troubles: dict[tuple[str, ...], _Trouble] = {}

    def admits(self, line: Line, now: float) -> bool:
        """Say whether a line is written; otherwise count it. `due` comes before this."""
        if line.get("level") not in _LEVELS:
            return True
        trouble = self._trouble_of(line, now)
        subject = hash(tuple(sorted((name, value) for name, value in line.items() if _is_of_subject(name, value))))
        if subject in trouble.subjects or len(trouble.subjects) >= SUBJECTS:
            trouble.held_back += 1
            trouble.words_differ = trouble.words_differ or any(
                name in _WORDS and text != str(line.get(name))[:_MAX_SAID] for name, text in trouble.head.items()
            )
            return False
        trouble.subjects.add(subject)
        return True

    def _trouble_of(self, line: Line, now: float) -> _Trouble:
        event = tuple(str(line.get(name)) for name in _EVENT)
        words = (f"{name}={_VARYING.sub('0', str(line[name])[:_MAX_COMPARED])}" for name in _TOLD_APART if name in line)
        key = (*event, *words)
        said: tuple[str, ...] = _WORDS
        if key not in self._troubles and sum(each[:2] == event for each in self._troubles) >= TROUBLES_OF_EVENT:
            key, said = event, ()
        if (trouble := self._troubles.get(key)) is None:
            head = {name: str(line[name])[:_MAX_SAID] for name in (*_EVENT, *said) if name in line}
            trouble = self._troubles[key] = _Trouble(now + SECONDS, head, set())
        return trouble

    def due(self, now: float) -> Iterator[Line]:
        """Return the lines to write now: how often each trouble was held back whose time is over."""
        for key, trouble in list(self._troubles.items()):
            # They are in the order of their beginning.
            if trouble.ends_at > now and len(self._troubles) <= TROUBLES:
                return
            self._troubles.pop(key, None)
            if trouble.held_back:
                yield trouble.said()

    def rest(self) -> Iterator[Line]:
        """Return all such lines, because the process ends."""
        return self.due(float("inf"))

    @property
    def next_due(self) -> float | None:
        """Return when `due` has something to say next; None if nothing was held back."""
        return next((each.ends_at for each in self._troubles.values() if each.held_back), None)


def _without_users(text: str) -> str:
    found = _USER.sub(lambda match: f"{match[1] or ''}…", text)
    return found if found != text else _HEX.sub("…", text)


def _is_of_subject(name: str, value: object) -> bool:
    return isinstance(value, str) and name != "timestamp"
