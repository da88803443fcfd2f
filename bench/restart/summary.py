"""The summary of the benchmark `restart`, by the number of users."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from bench.restart.samples import CREATED, KEPT, LOOKED_UP, LOST, READ, SCANNED, Reading, Restart, Sample
from bench.results import Figure

MAX_FIRST_SECONDS: Final = 3.0
MIN_RATIO_TO_BARE: Final = 0.7


class Summary(msgspec.Struct, frozen=True):
    """Medians of the rounds with one number of users, the best of the bare readings, and the most asked of others."""

    users: int
    ready: dict[str, float]
    new_user: dict[str, float]
    scan_rate: float
    bare_rate: float
    bare_in_flight: int
    asked_of_others: int

    @property
    def of_bare(self) -> float:
        """Return the scan's rate as a part of the bare one."""
        return self.scan_rate / self.bare_rate


def asked_of_others(requests: Mapping[str, int]) -> int:
    """Return how many requests were about users other than the new ones.

    To serve a new user, an instance creates the database, and reads and writes its security object. Each further
    read, and each question for the list of databases, was about a user who was served already.
    """
    reads = requests.get(READ, 0) - requests.get(CREATED, 0)
    return max(0, reads) + requests.get(LOOKED_UP, 0) + requests.get(SCANNED, 0)


def summaries(samples: Iterable[Sample]) -> list[Summary]:
    """Sum the samples up by the number of users: medians, and the most requests about others."""
    samples = list(samples)
    return [
        _summary(users, [each for each in samples if each.users == users])
        for users in dict.fromkeys(each.users for each in samples)
    ]


def _summary(users: int, samples: Sequence[Sample]) -> Summary:
    restarts = [each for each in samples if isinstance(each, Restart)]
    readings = [each for each in samples if isinstance(each, Reading)]
    bare = {
        each.in_flight: median(one.rate for one in readings if one.in_flight == each.in_flight) for each in readings
    }
    best = max(bare, key=bare.__getitem__)
    return Summary(
        users=users,
        ready={name: median(each.ready for each in restarts if each.contender == name) for name in (KEPT, LOST)},
        new_user={name: median(each.new_user for each in restarts if each.contender == name) for name in (KEPT, LOST)},
        scan_rate=median(each.rate for each in restarts if each.contender == LOST),
        bare_rate=bare[best],
        bare_in_flight=best,
        asked_of_others=max(asked_of_others(each.requests) for each in restarts if each.contender == KEPT),
    )


def figures(samples: Iterable[Sample]) -> dict[str, Figure]:
    """Return the goals by the number of users. The ratio is a single value, because it is of medians."""
    samples = list(samples)
    found: dict[str, Figure] = {}
    for each in summaries(samples):
        restarts = [one for one in samples if isinstance(one, Restart) and one.users == each.users]
        kept = tuple(one.new_user for one in restarts if one.contender == KEPT)
        scans = tuple(one.ready for one in restarts if one.contender == LOST)
        asked = (float(each.asked_of_others),)
        found |= {
            f"new user served, {each.users:,} users": Figure(kept, "s", "lower", MAX_FIRST_SECONDS),
            f"requests about other users, {each.users:,} users": Figure(asked, "", "lower", 0.0),
            f"ready with the state lost, {each.users:,} users": Figure(scans, "s", "lower"),
            f"scan / bare reads, {each.users:,} users": Figure((each.of_bare,), "", "higher", MIN_RATIO_TO_BARE),
        }
    return found
