"""The runs of the benchmark `restart`: a start of all instances, and a bare reading of what a scan reads."""

from typing import Final

import msgspec

KEPT: Final = "with checkpoints"
LOST: Final = "state lost"

# The counts that instances give themselves, of users that came by the live feed and by a scan.
LIVE: Final = "users taken up live"
SCANNED: Final = "users taken up by scans"

# The counts of a simulated cluster.
CREATED: Final = "PUT database"
READ: Final = "GET security"
WRITTEN: Final = "PUT security"
LOOKED_UP: Final = "POST dbs_docs"


class Restart(msgspec.Struct, frozen=True):
    """One start of all instances. Seconds are from the start of their processes.

    `new_user` is when the one who signed up then was served, `ready` when all were ready, `settled` when they also knew
    of each other. `requests` are what was asked of user databases until then, by method and kind; of a cluster that
    does not count them, what the instances say that they did.
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


Run = Restart | Reading
