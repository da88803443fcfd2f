"""The kinds of findings of the audit, and what mends them."""

from enum import StrEnum
from typing import Final


class Finding(StrEnum):
    """The ways in which a user's database can be other than it should be; a metric's label."""

    MISSING = "missing"  # the user is there, and the database is not
    NOT_NAMED = "not_named"  # a copy does not name the user as it should
    PUBLIC = "public"  # a copy lets everybody in
    COPIES_DIFFER = "copies_differ"  # the security objects of the copies differ, or a node has no file of its copy
    STILL_NAMED = "still_named"  # the user is deleted, and a copy names the user still
    HELD = "held"  # kept shut, because the user came back under a name that was free
    UNREADABLE = "unreadable"  # a security object of a shape, or of a size, that is not read
    OPTIONS = "options"  # made with other options than are configured
    TEMPLATE = "template"  # a document or an option of a template is missing or out of date
    UNPADDED = "unpadded"  # there is a database under the name that couch_peruser gives this user
    NO_USER = "no_user"  # there never was a document of this user
    COPY_BEHIND = "copy_behind"  # a copy of the authentication database does not know the newest revision
    COPIES_SILENT = "copies_silent"  # a copy of the database, or its documents of templates, could not be read
    UNCONFIRMED = "unconfirmed"  # the copies of the user document could not be read, or disagree


UNSEEN: Final = frozenset({Finding.COPIES_SILENT, Finding.UNCONFIRMED})
"""These tell that something could not be seen; they are no difference."""

LASTING: Final = frozenset({Finding.OPTIONS, Finding.UNPADDED})
"""These are not gone in a moment: how a database was made, and which name it got. One look is enough for them."""

NO_REASON_TO_LOOK: Final = UNSEEN | {Finding.TEMPLATE}
"""Where nothing else was found, a look would change nothing: templates reach databases that are there by a rollout."""


class Remedy(StrEnum):
    """The way to mend what was found."""

    NOTHING = "nothing"  # nothing is to be mended
    LOOK = "look"  # a running instance that looks at the user mends it
    OPERATOR = "operator"  # a person has to decide, or to change something
    LATER = "later"  # it cannot be told, or not be done, before others can be read
