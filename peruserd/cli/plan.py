"""`peruserd plan`: show the live instances, and the ranges to which each listens."""

import argparse

import msgspec

from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.observing import START, Observed, observe
from peruserd.cli.output import print_json, say
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE
from peruserd.cli.tables import table
from peruserd.core.cluster.explanation import WholePlan, lone_plan, whole_plan
from peruserd.core.cluster.leases import Lease
from peruserd.core.cluster.views import Feed
from peruserd.core.common.escaping import counted, named, shown
from peruserd.supervisor.membership import Peer


class _Instance(msgspec.Struct, frozen=True):
    standing: str
    lease: Lease


class _Document(msgspec.Struct, frozen=True):
    plan: WholePlan | None
    instances: tuple[_Instance, ...]
    leases_readable: bool
    differing: tuple[str, ...]
    never_started: bool


def run(options: argparse.Namespace) -> int:
    """Print the whole plan; exit 1 where there is none, or where no instance can carry out a part of it."""
    return with_server(options, lambda connected: _plan(connected, options))


def _plan(connected: Connected, options: argparse.Namespace) -> int:
    observed = observe(connected, wait=not options.no_wait)
    plan = _planned(connected, observed)
    if options.json:
        instances = tuple(_Instance(each.status.value, each.lease) for each in observed.peers)
        apart = tuple(lease.node for lease in observed.apart)
        print_json(_Document(plan, instances, observed.view.leases_readable, apart, bool(observed.why_never_started)))
    elif observed.attachment.feed is Feed.DATABASE:
        print("a server without shards: one instance follows the database's own feed")
    elif plan is not None:
        print(_in_words(plan, observed))
    if plan is None or plan.unreadable:
        return EXIT_NOT_DONE
    return EXIT_DONE if observed.view.leases_readable and plan.instances else EXIT_NOT_DONE


def _planned(connected: Connected, observed: Observed) -> WholePlan | None:
    """Return the plan; where there is none, print why and return None."""
    if observed.attachment.feed is Feed.DATABASE:
        return lone_plan(connected.config.couchdb.auth_db, observed.attachment.node)
    try:
        return whole_plan(observed.view)
    except LookupError as error:
        say(f"no plan: {error}")
        return None


def _in_words(plan: WholePlan, observed: Observed) -> str:
    ranges = [
        (
            each.range,
            ", ".join(f"{named(node)}{'' if node in plan.nodes else ' (away)'}" for node in each.hosts),
            ", ".join(
                named(instance) if instance == node else f"{named(instance)} (reads {named(node)})"
                for instance, node in each.listeners.items()
            )
            or "NOBODY",
        )
        for each in plan.ranges
    ]
    counts = ", ".join(
        (
            counted(len(plan.ranges), "range"),
            f"{counted(len(plan.nodes), 'node')} connected",
            f"{counted(len(plan.instances), 'instance')} alive",
        )
    )
    parts = [
        f"authentication database {plan.database}: {counts}",
        table(("range", "hosts", "listeners"), ranges),
    ]
    if observed.peers:
        head = ("instance", "standing", "role", "lease", "version", "page")
        parts.insert(1, table(head, map(_instance, observed.peers)))
    if observed.apart:
        names = ", ".join(named(lease.node) for lease in observed.apart)
        parts.append(
            f"instances with other settings for databases, rights, templates or deletion than this command's: {names}"
        )
    if observed.why_never_started:
        parts.append(f"{observed.why_never_started}, so nobody is served; {START}")
    elif not observed.view.leases_readable:
        parts.append("the leases cannot be read: who is alive is not known")
    elif not plan.instances:
        parts.append(f"no instance is alive, so nobody is served; {START}")
    elif plan.unreadable:
        parts.append(f"cannot be read now: {', '.join(plan.unreadable)}")
    return "\n\n".join(parts)


def _instance(peer: Peer) -> tuple[str, ...]:
    lease, status = peer.lease, peer.status
    role = lease.role.value + (", drained" if lease.drained else "")
    role += ", node in maintenance mode" if lease.maintenance else ""
    return named(lease.node), status.value, role, str(lease.counter), shown(lease.version), shown(lease.address)
