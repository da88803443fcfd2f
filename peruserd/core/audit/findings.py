"""The kinds of findings of the audit, and their remedies."""

from enum import StrEnum
from typing import Final


class Finding(StrEnum):
    """The ways in which a user's database can differ from the desired state. The values label a metric."""

    MISSING = "missing"  # the user is there, and the database is not
    NOT_NAMED = "not_named"  # a copy does not name the user as it should
    PUBLIC = "public"  # a copy lets everybody in
    COPIES_DIFFER = "copies_differ"  # the security objects of the copies differ, or a node has no file of its copy
    STILL_NAMED = "still_named"  # the user is deleted, and a copy still names the user
    HELD = "held"  # the user returned under a freed name, and the operator has to decide
    UNREADABLE = "unreadable"  # a security object is malformed, or too large
    OPTIONS = "options"  # the database was made with other options than the configured ones
    TEMPLATE = "template"  # a document or an option of a template is missing or out of date
    UNPADDED = "unpadded"  # there is a database under the name that couch_peruser gives this user
    NO_USER = "no_user"  # there never was a document of this user
    COPY_BEHIND = "copy_behind"  # a copy of the authentication database does not know the newest revision
    COPIES_SILENT = "copies_silent"  # a copy of the database, or its documents of templates, could not be read
    UNCONFIRMED = "unconfirmed"  # the copies of the user document could not be read, or disagree


UNSEEN: Final = frozenset({Finding.COPIES_SILENT, Finding.UNCONFIRMED})
"""Findings about facts that could not be read. They are not a difference."""

LASTING: Final = frozenset({Finding.OPTIONS, Finding.UNPADDED})
"""Findings about the options and the name of a database. They do not pass by themselves, so one look is enough."""

NO_REASON_TO_LOOK: Final = UNSEEN | {Finding.TEMPLATE}
"""Findings that a look does not change. Templates reach existing databases by a rollout only."""


class Remedy(StrEnum):
    """The way to repair the findings."""

    NOTHING = "nothing"  # there is nothing to repair
    LOOK = "look"  # a running instance repairs it by looking at the user
    OPERATOR = "operator"  # a person has to decide, or to change something
    LATER = "later"  # it cannot be decided or done before other copies can be read
