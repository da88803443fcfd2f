"""The samples of the benchmark `restart`: a start of all instances, and a bare reading of what a scan reads."""

from typing import Final

import msgspec

KEPT: Final = "with checkpoints"
LOST: Final = "state lost"

# Counts by the instances themselves: users whom the live feed brought, and users whom a scan brought.
LIVE: Final = "users taken up live"
SCANNED: Final = "users taken up by scans"

# Counts by a simulated cluster.
CREATED: Final = "PUT database"
READ: Final = "GET security"
WRITTEN: Final = "PUT security"
LOOKED_UP: Final = "POST dbs_docs"


class Restart(msgspec.Struct, frozen=True):
    """One start of all instances. Seconds are from the start of their processes.

    - `new_user`: the user who signed up then was served.
    - `ready`: all instances were ready.
    - `settled`: they also knew of each other.

    `requests` are those about user databases until all were settled, by method and kind. A real cluster does not count
    them, so there `requests` are the counts of the instances.
    """

    contender: str
    users: int
    round: int
    ready: float
    new_user: float
    settled: float
    requests: dict[str, int]

    @property
    def rate(self) -> float:
        """Return users a second until all were ready."""
        return self.users / self.ready


class Reading(msgspec.Struct, frozen=True):
    """One reading of every user's security object by a plain loop."""

    in_flight: int
    users: int
    round: int
    seconds: float

    @property
    def rate(self) -> float:
        """Return users a second."""
        return self.users / self.seconds


Sample = Restart | Reading
