"""The owner of a user, with the reasons, and the plans of all instances, for the commands `owner` and `plan`. Pure."""

from collections.abc import Mapping

import msgspec

from peruserd.core.cluster.views import View, make_plan
from peruserd.core.common.names import UnservableNameError, database_name, is_unicode, user_document_id
from peruserd.core.ownership.hashing import document_hash, document_key
from peruserd.core.ownership.ownership import Owners, Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range


class Candidate(msgspec.Struct, frozen=True):
    """A node in the search for a document's owner, and why it is the owner or not."""

    node: str
    alive: bool
    why: str


class OwnerExplanation(msgspec.Struct, frozen=True):
    """The owner of a user's document. `owner` is None if there is none, and `why` explains the result.

    `hash` places the document in `ranges`. The search begins at `key` modulo the number of `hosts`. `hosts` are in the
    order of the search.
    """

    user: str
    document: str
    database: str | None
    owner: str | None
    why: str
    hash: str = ""
    key: int = 0
    ranges: tuple[str, ...] = ()
    hosts: tuple[Candidate, ...] = ()
    adopters: tuple[str, ...] = ()


class PlannedRange(msgspec.Struct, frozen=True):
    """One range: its hosts, and which instance follows which node's copy. `listeners` is empty if none is readable."""

    range: str
    hosts: tuple[str, ...]
    candidates: tuple[str, ...]
    listeners: dict[str, str]


class WholePlan(msgspec.Struct, frozen=True):
    """The plans of all live instances by one view."""

    database: str
    nodes: tuple[str, ...]
    instances: tuple[str, ...]
    ranges: tuple[PlannedRange, ...]
    unreadable: tuple[str, ...]


def explain_owner(user: str, view: View, prefix: str, not_alive: Mapping[str, str]) -> OwnerExplanation:
    """Return the owner of a user in a view. `not_alive` says why a node has no live instance."""
    document_id = user_document_id(user)
    if not is_unicode(user):
        why = "the user name is not valid Unicode, and no user document can have it"
        return OwnerExplanation(user, document_id, None, None, why)
    database = _database(prefix, user)
    shard_map = view.shard_map
    if shard_map is None:
        return OwnerExplanation(user, document_id, database, None, "the authentication database does not exist")
    place, key = document_hash(document_id), document_key(shard_map.database, document_id)
    ranges = shard_map.ranges_holding(place)
    hosts = shard_map.hosts_of(place)
    if not ranges:
        why = f"no range of the shard map holds its hash {place:08x}"
        return OwnerExplanation(user, document_id, database, None, why, f"{place:08x}", key)
    ownership = Ownership.of(shard_map, ranges[0], view.instances)
    owner = ownership.owner(document_id)
    start = key % len(hosts)
    candidates = tuple(
        Candidate(node, node in view.instances, _why(node, owner, view, not_alive))
        for node in hosts[start:] + hosts[:start]
    )
    adopters = () if any(each.alive for each in candidates) else tuple(sorted(view.instances))
    return OwnerExplanation(
        user=user,
        document=document_id,
        database=database,
        owner=owner,
        why=_reason(owner, adopters),
        hash=f"{place:08x}",
        key=key,
        ranges=tuple(map(str, ranges)),
        hosts=candidates,
        adopters=adopters,
    )


def explain_lone_owner(user: str, instance: str, prefix: str) -> OwnerExplanation:
    """Return the owner of a user on a server without shards. Such a server has one instance."""
    why = "a server without shards has one instance; it serves everybody"
    return OwnerExplanation(user, user_document_id(user), _database(prefix, user), instance, why)


def lone_plan(database: str, instance: str) -> WholePlan:
    """Return the plan of the one instance of a server without shards."""
    one = (instance,)
    whole = PlannedRange(str(WHOLE_SPACE), hosts=one, candidates=one, listeners={instance: instance})
    return WholePlan(database, nodes=one, instances=one, ranges=(whole,), unreadable=())


def whole_plan(view: View) -> WholePlan:
    """Return the plans of all live instances. Raises LookupError if the authentication database does not exist."""
    if view.shard_map is None:
        raise LookupError("the authentication database does not exist")
    listeners: dict[Range, dict[str, str]] = {covered: {} for covered in view.shard_map.hosts}
    for instance in view.instances:
        for assignment in make_plan(view, instance).assignments:
            listeners[assignment.copy.range][instance] = assignment.copy.node
    owners = Owners(view.shard_map, view.instances)
    ranges = [
        PlannedRange(str(covered), hosts, owners.of(covered).candidates, listeners[covered])
        for covered, hosts in view.shard_map.hosts.items()
    ]
    unreadable = tuple(each.range for each in ranges if not each.listeners)
    return WholePlan(view.shard_map.database, view.nodes, view.instances, tuple(ranges), unreadable)


def _database(prefix: str, user: str) -> str | None:
    try:
        return database_name(prefix, user)
    except UnservableNameError:
        return None


def _why(node: str, owner: str | None, view: View, not_alive: Mapping[str, str]) -> str:
    if node == owner:
        return "the first with a live instance"
    if node in view.instances:
        return "alive; later in the order"
    return not_alive.get(node, "no lease")


def _reason(owner: str | None, adopters: tuple[str, ...]) -> str:
    if owner is None:
        return "no instance is alive"
    if adopters:
        return "none of its hosts has a live instance, so all live instances share it"
    return "the first of its hosts, from the key's position on, that has a live instance"
