"""Nodes that are away, and the place in the list of databases from which on each of them may have missed something.

A database that is made or made again while a node is away gets a copy there once the node is back. CouchDB makes that
copy with the security object of a new database. It brings the object to what the other copies hold only where its own
replication of that shard runs after the copy was made, and only where a majority holds one object (measured). So the
users of these databases are looked at when the node is back. Nothing is remembered of each database for that: the list
of databases has them, whoever made them, after the place up to which the node had certainly taken part.

The list is read twice. The second time is for what was made while the node came back: CouchDB's own repair can have
read copies before they were secured, and have written that afterwards.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.leases import Breaks

# A node that hangs is taken for connected until Erlang has waited for its net ticks in vain, for up to 75 s.
_UNNOTICED_SECONDS: Final = 90.0

# From the return of a node to the second reading, by when its list of databases and its copies are the others' again,
# and what that one goes back before the return. Both are well below the promise of half a minute.
_SETTLED_SECONDS: Final = 12.0
_AMID_SECONDS: Final = 15.0

# Between two places that are remembered.
_APART_SECONDS: Final = 1.0

# Deployments that give each node a new name leave names behind that never return.
_MAX_AWAY: Final = 1_000

# Each start of an instance is another incarnation.
_MAX_LOGGED: Final = 1_000

_READINGS: Final = 2


class Absence(msgspec.Struct, frozen=True):
    """One node's absence since the place `since`, which ends when all is seen to after its return at `back_at`.

    The place moves on as looks are over, so another absence amidst them has no more to be looked at than what is left,
    and what came shortly before it.

    `read_from` is where the reading under way goes on, and `readings` how many were ended. `again_from` is where the
    second one begins. `asked` are the numbers of the looks that were asked for, and the places up to which. `told` says
    that an instance has told of a break, which can be this absence.
    """

    since: Mark
    back_at: float | None = None
    read_from: Mark | None = None
    readings: int = 0
    again_from: Mark | None = None
    asked: tuple[tuple[int, Mark], ...] = ()
    told: bool = False


class Absences:
    """Follows who is away, by the caller's monotonic clock, in seconds. Not thread-safe.

    `kept` is what an earlier process has known, and `start` how far that one had seen to the list of databases.
    """

    def __init__(self, kept: Mapping[str, Mark], start: Mark | None) -> None:
        self._absent = {node: Absence(since) for node, since in kept.items()}
        self._places: deque[tuple[float, Mark]] = deque()
        if start is not None:
            self._places.append((float("-inf"), start))
        self._connected: frozenset[str] = frozenset()
        # The breaks that are known, by incarnation, those told of last at the end.
        self._broke: dict[str, int] = {}

    @property
    def kept(self) -> dict[str, Mark]:
        """Return what is to be on disk: the place since which each node is missed."""
        return {node: each.since for node, each in self._absent.items()}

    def see(
        self,
        connected: Collection[str],
        hosts: Collection[str],
        place: Mark | None,
        now: float,
        breaks: Iterable[Breaks] = (),
    ) -> None:
        """Note which nodes are connected, and how far this instance's node has the list of databases.

        One of the `hosts` is missed though it was never seen. `breaks` are those that living instances tell of.
        """
        if place is not None:
            self._note(place, now)
        nodes = frozenset(connected)
        gone = self._connected.union(hosts) - nodes
        # A node is back that was away between two looks.
        for node in self._newly_broken(breaks):
            self._break(node, now)
        for node in gone | (self._absent.keys() - nodes):
            self._leave(node, now)
        for node, absence in self._absent.items():
            if node in nodes:
                self._absent[node] = self._seen_connected(absence, now)
        # Until a place is known, a node that has gone is not missed yet.
        self._connected = nodes.union(gone.difference(self._absent))

    def next_reading(self) -> tuple[str, Mark] | None:
        """Return a node that is back, and from where to read what it may have missed; None where all is read."""
        found = ((node, each.read_from) for node, each in self._absent.items() if each.read_from is not None)
        return next(((node, place) for node, place in found if place is not None), None)

    def read(self, node: str, place: Mark, asked: int, *, to_end: bool) -> None:
        """Note that the list was read for a node up to a place, `to_end` or not, and by which number looks are asked.

        Looks of a number are over when `seen_to` is told so.
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
        """Note up to which number looks are over: a node of which all is seen to is missed no more."""
        for node, absence in list(self._absent.items()):
            seen = [place for asked, place in absence.asked if asked <= number]
            if not seen:
                continue
            left = absence.asked[len(seen) :]
            if absence.readings == _READINGS and not left:
                del self._absent[node]
                continue
            # The rows of the second reading are seen to only with that one.
            since = max(absence.since, _earlier(seen[-1], absence.again_from), key=_sequence)
            self._absent[node] = msgspec.structs.replace(absence, since=since, asked=left)

    def _seen_connected(self, absence: Absence, now: float) -> Absence:
        if absence.back_at is None:
            again = self._place_at(now - _AMID_SECONDS) or absence.since
            return msgspec.structs.replace(absence, back_at=now, read_from=absence.since, again_from=again)
        is_read_once = absence.read_from is None and absence.readings == _READINGS - 1
        if is_read_once and now >= absence.back_at + _SETTLED_SECONDS:
            return msgspec.structs.replace(absence, read_from=absence.again_from)
        return absence

    def _newly_broken(self, breaks: Iterable[Breaks]) -> set[str]:
        told = list(breaks)
        found = {each.node for each in told if each.count > self._broke.get(each.incarnation, each.count)}
        # An instance is silent while its node hangs. Its count afterwards is compared with its count before.
        for each in told:
            self._broke.pop(each.incarnation, None)
            self._broke[each.incarnation] = each.count
        while len(self._broke) > _MAX_LOGGED:
            del self._broke[next(iter(self._broke))]
        return found

    def _break(self, node: str, now: float) -> None:
        """Note that a node has broken, and is back as a rule.

        If it is back from an absence that was seen, that one is told of now, so what came lately is read once more. Of
        any other break looks can be open, so that all is read once more that was not seen to before.
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
                # The reading under way can have passed what was missed.
                readings=min(absence.readings, _READINGS - 1) if absence.read_from is None else 0,
                again_from=_earlier(again, absence.since) if absence.told else again,
            )
        if absence is not None:
            self._absent[node] = msgspec.structs.replace(absence, told=True)

    def _leave(self, node: str, now: float) -> None:
        """Note that a node is away, or was, since the last look."""
        place = self._place_at(now - _UNNOTICED_SECONDS)
        absence = self._absent.get(node)
        if absence is not None and absence.back_at is not None:
            # Looks that are open can have found it away.
            self._absent[node] = Absence(_earlier(absence.since, place))
        elif absence is None and place is not None:
            self._absent[node] = Absence(place)
            while len(self._absent) > _MAX_AWAY:
                del self._absent[next(iter(self._absent))]

    def _note(self, place: Mark, now: float) -> None:
        places = self._places
        if places and not _goes_on(places[-1][1], place):
            places.clear()
            # A reading under way can have passed rows that stand elsewhere now.
            self._absent = {node: Absence(each.since) for node, each in self._absent.items()}
        for node, absence in self._absent.items():
            if not _goes_on(absence.since, place):
                # Nothing is known of another list, so all of it may have been missed.
                self._absent[node] = Absence(Mark(place.uuid, 0))
        if not places or (now - places[-1][0] >= _APART_SECONDS and places[-1][1] != place):
            places.append((now, place))
        while len(places) > 1 and places[1][0] <= now - _UNNOTICED_SECONDS:
            places.popleft()

    def _place_at(self, at: float) -> Mark | None:
        """Return the newest place of that time or before, or the oldest that is known."""
        found = None
        for noted_at, place in self._places:
            if found is not None and noted_at > at:
                break
            found = place
        return found


def _goes_on(before: Mark, place: Mark) -> bool:
    """Say whether a place can be a later one of the same list: files put back from a backup keep their `uuid`."""
    sequences = (before.sequence, place.sequence)
    is_behind = isinstance(sequences[0], int) and isinstance(sequences[1], int) and sequences[0] > sequences[1]
    return before.uuid == place.uuid and not is_behind


def _earlier(place: Mark, other: Mark | None) -> Mark:
    """Return the earlier one of two places of the same list."""
    return place if other is None else min(place, other, key=_sequence)


def _sequence(place: Mark) -> int:
    # A node's list has numbers. All of a list may have been missed that has anything else.
    return place.sequence if isinstance(place.sequence, int) else 0
