"""Absent nodes, and the place in the list of databases from which each of them may have missed something.

A database that is created while a node is away gets its copy there when the node returns. CouchDB creates that copy
with the security object of a new database. CouchDB repairs the object only if a majority of the copies holds one
object, and only if its own replication of that shard runs after the copy was created (measured). So the users of these
databases are looked at when the node returns. No single database is remembered for that. The list of databases contains
all of them, after the last place at which the node certainly took part.

The list is read twice. The second reading is for databases that were created while the node returned. CouchDB's own
repair can read their copies before they are secured, and write the old object afterwards.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.leases import Breaks
from peruserd.core.feed.rows import is_before

# A hanging node counts as connected until Erlang has missed its net ticks, for up to 75 s.
_UNNOTICED_SECONDS: Final = 90.0

# The second reading begins this long after a node's return, when its list of databases and its copies are up to date
# again. It starts from a place this long before the return.
_SECOND_READING_SECONDS: Final = 12.0
_OVERLAP_SECONDS: Final = 15.0

# The time between two remembered places.
_PLACE_INTERVAL_SECONDS: Final = 1.0

# Deployments that give each node a new name leave names behind that never return.
_MAX_AWAY: Final = 1_000

# Each start of an instance is another incarnation.
_MAX_LOGGED: Final = 1_000

_READINGS: Final = 2


class Absence(msgspec.Struct, frozen=True):
    """The absence of one node. It ends when all looks after the node's return are done.

    - `since`: the place in the list from which the node may have missed something. It advances as looks are done, so a
      further absence meanwhile repeats only the open looks, and some that came shortly before it.
    - `back_at`: when the node returned.
    - `read_from`: where the reading under way continues. `readings`: how many readings are complete.
    - `again_from`: where the second reading begins.
    - `asked`: the numbers of the requested looks, each with the place up to which the list was read for it.
    - `told`: an instance has reported a break of the connection that may be this absence.
    """

    since: Mark
    back_at: float | None = None
    read_from: Mark | None = None
    readings: int = 0
    again_from: Mark | None = None
    asked: tuple[tuple[int, Mark], ...] = ()
    told: bool = False


class Absences:
    """Follows which nodes are absent, by the caller's monotonic clock, in seconds. Not thread-safe.

    `kept` are the absences that an earlier process has saved. `start` is the place up to which it had handled the list
    of databases.
    """

    def __init__(self, kept: Mapping[str, Mark], start: Mark | None) -> None:
        self._absent = {node: Absence(since) for node, since in kept.items()}
        self._places: deque[tuple[float, Mark]] = deque()
        if start is not None:
            self._places.append((float("-inf"), start))
        self._connected: frozenset[str] = frozenset()
        # The known number of breaks by incarnation, the latest reports at the end.
        self._broke: dict[str, int] = {}

    @property
    def kept(self) -> dict[str, Mark]:
        """Return the state to save: for each absent node the place from which it may have missed something."""
        return {node: each.since for node, each in self._absent.items()}

    def observe(
        self,
        connected: Collection[str],
        hosts: Collection[str],
        place: Mark | None,
        now: float,
        breaks: Iterable[Breaks] = (),
    ) -> None:
        """Note which nodes are connected, and the newest `place` in the list of databases of this instance's node.

        A node among the `hosts` counts as absent even if it was never connected. `breaks` are the reports of the living
        instances.
        """
        if place is not None:
            self._note(place, now)
        nodes = frozenset(connected)
        gone = self._connected.union(hosts) - nodes
        # A break means that a node was away between two readings and has returned.
        for node in self._newly_broken(breaks):
            self._break(node, now)
        for node in gone | (self._absent.keys() - nodes):
            self._leave(node, now)
        for node, absence in self._absent.items():
            if node in nodes:
                self._absent[node] = self._seen_connected(absence, now)
        # Until a place is known, a node that has gone is not absent yet.
        self._connected = nodes.union(gone.difference(self._absent))

    def next_reading(self) -> tuple[str, Mark] | None:
        """Return a node that has returned, and from where to read the list for it; None if all is read."""
        found = ((node, each.read_from) for node, each in self._absent.items() if each.read_from is not None)
        return next(((node, place) for node, place in found if place is not None), None)

    def read(self, node: str, place: Mark, asked: int, *, to_end: bool) -> None:
        """Note that the list was read for a node up to a `place`, `to_end` or not.

        `asked` is the number of the looks that were requested for these rows. They are done when `seen_to` is called
        with that number.
        """
        absence = self._absent.get(node)
        if absence is not None:
            self._absent[node] = msgspec.structs.replace(
                absence,
                read_from=None if to_end else place,
                readings=absence.readings + to_end,
                asked=(*absence.asked, (asked, place)),
            )

    def seen_to(self, number: int) -> None:
        """Note up to which number the looks are done. A node without open looks is not absent any more."""
        for node, absence in list(self._absent.items()):
            seen = [place for asked, place in absence.asked if asked <= number]
            if not seen:
                continue
            left = absence.asked[len(seen) :]
            if absence.readings == _READINGS and not left:
                del self._absent[node]
                continue
            # The rows of the second reading are done only with the second reading.
            since = max(absence.since, _earlier(seen[-1], absence.again_from), key=_sequence)
            self._absent[node] = msgspec.structs.replace(absence, since=since, asked=left)

    def _seen_connected(self, absence: Absence, now: float) -> Absence:
        if absence.back_at is None:
            again = self._place_at(now - _OVERLAP_SECONDS) or absence.since
            return msgspec.structs.replace(absence, back_at=now, read_from=absence.since, again_from=again)
        is_read_once = absence.read_from is None and absence.readings == _READINGS - 1
        if is_read_once and now >= absence.back_at + _SECOND_READING_SECONDS:
            return msgspec.structs.replace(absence, read_from=absence.again_from)
        return absence

    def _newly_broken(self, breaks: Iterable[Breaks]) -> set[str]:
        told = list(breaks)
        found = {each.node for each in told if each.count > self._broke.get(each.incarnation, each.count)}
        # An instance is silent while its node hangs. Afterwards its new count is compared with the old one.
        for each in told:
            self._broke.pop(each.incarnation, None)
            self._broke[each.incarnation] = each.count
        while len(self._broke) > _MAX_LOGGED:
            del self._broke[next(iter(self._broke))]
        return found

    def _break(self, node: str, now: float) -> None:
        """Note that a node's connection has broken. As a rule the node is back already.

        - If the node has just returned from a known absence, the report is probably about that absence. Then only the
          latest part of the list is read once more.
        - Any other break may have made open looks useless. Then everything that is not done yet is read once more.
        """
        absence = self._absent.get(node)
        if absence is None:
            self._leave(node, now)
            absence = self._absent.get(node)
        elif absence.back_at is not None:
            again = _earlier(absence.again_from or absence.since, self._place_at(now - _UNNOTICED_SECONDS))
            absence = msgspec.structs.replace(
                absence,
                back_at=now,
                # The reading under way may have passed the missed rows already.
                readings=min(absence.readings, _READINGS - 1) if absence.read_from is None else 0,
                again_from=_earlier(again, absence.since) if absence.told else again,
            )
        if absence is not None:
            self._absent[node] = msgspec.structs.replace(absence, told=True)

    def _leave(self, node: str, now: float) -> None:
        """Note that a node is away, or was away since the last reading."""
        absence = self._absent.get(node)
        if absence is not None and absence.back_at is None:
            return
        place = self._place_at(now - _UNNOTICED_SECONDS)
        if absence is not None:
            # The open looks may have found the node away.
            self._absent[node] = Absence(_earlier(absence.since, place))
        elif place is not None:
            self._absent[node] = Absence(place)
            while len(self._absent) > _MAX_AWAY:
                del self._absent[next(iter(self._absent))]

    def _note(self, place: Mark, now: float) -> None:
        places = self._places
        if places and not _goes_on(places[-1][1], place):
            places.clear()
            # In the new list, a reading under way may have passed rows that are at another place now.
            self._absent = {node: Absence(each.since) for node, each in self._absent.items()}
        for node, absence in self._absent.items():
            if not _goes_on(absence.since, place):
                # The absence belongs to another list, so all rows of this one may have been missed.
                self._absent[node] = Absence(Mark(place.uuid, 0))
        if not places or (now - places[-1][0] >= _PLACE_INTERVAL_SECONDS and places[-1][1] != place):
            places.append((now, place))
        while len(places) > 1 and places[1][0] <= now - _UNNOTICED_SECONDS:
            places.popleft()

    def _place_at(self, at: float) -> Mark | None:
        """Return the newest place from that time or before, or the oldest known place."""
        found = None
        for noted_at, place in self._places:
            if found is not None and noted_at > at:
                break
            found = place
        return found


def _goes_on(before: Mark, place: Mark) -> bool:
    """Say whether a place can be a later one of the same list. Files restored from a backup keep their `uuid`."""
    return before.uuid == place.uuid and not is_before(place.sequence, before.sequence)


def _earlier(place: Mark, other: Mark | None) -> Mark:
    """Return the earlier of two places of the same list."""
    return place if other is None else min(place, other, key=_sequence)


def _sequence(place: Mark) -> int:
    # A node's list has integers. For anything else, the whole list may have been missed.
    return place.sequence if isinstance(place.sequence, int) else 0
