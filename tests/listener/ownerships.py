"""Ownerships of a range with two hosts, and outcomes of work, as most tests of a tracker need them."""

from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.users.quarantine import Failure
from peruserd.listener.outcome import Outcome

HOSTS = ((WHOLE_SPACE, ("me", "other")),)
MINE = Ownership("_users", WHOLE_SPACE, HOSTS, ("me",))
SHARED = Ownership("_users", WHOLE_SPACE, HOSTS, ("me", "other"))
THEIRS = Ownership("_users", WHOLE_SPACE, HOSTS, ("other",))

DONE = Outcome(acted_on=False, provisioned=True, created=True, security_written=True, whole=True)
FAILED = Outcome(failure=Failure("conflict", "409"))
