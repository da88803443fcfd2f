"""The steps that the decision about a user can take: questions, acts and ends."""

from enum import Enum

import msgspec

from peruserd.core.users.quarantine import Failure
from peruserd.core.users.security import Security


class Ask(Enum):
    """A fact to find out next."""

    DOCUMENT = "document"  # the user document, copy by copy
    GLANCE = "glance"  # the security object, by one clustered read
    COPIES = "copies"  # the security object, copy by copy
    CONTENTS = "contents"  # the documents and options that templates put into the database
    ADMISSION = "admission"  # whether the operator admits the returning user
    REMOVAL = "removal"  # whether somebody else deleted the database


class Create(msgspec.Struct, frozen=True):
    """Create the database, or find out that it exists."""


class Write(msgspec.Struct, frozen=True):
    """Write the security object to all copies at once."""

    security: Security


class WriteEach(msgspec.Struct, frozen=True):
    """Write to each of these copies separately. Each pair is the copy's place in `Facts.copies`, and its object."""

    securities: tuple[tuple[int, Security], ...]


class WriteTemplates(msgspec.Struct, frozen=True):
    """Write the documents and options of templates that are due."""


class Served(msgspec.Struct, frozen=True):
    """The user is live, and the database exists with the right access."""


class Removed(msgspec.Struct, frozen=True):
    """The user is deleted, and no copy of the database names the user. `absent` says that there is no database."""

    absent: bool = False


class NothingToDo(msgspec.Struct, frozen=True):
    """There is nothing to do for this reason to look. `why` says so in words."""

    why: str


class Failed(msgspec.Struct, frozen=True):
    """The act cannot be completed now."""

    failure: Failure


Step = Ask | Create | Write | WriteEach | WriteTemplates | Served | Removed | NothingToDo | Failed
