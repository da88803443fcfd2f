"""`peruserd owner`: say which instance serves a user, and why."""

import argparse

from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.observing import START, observe
from peruserd.cli.output import print_json, say
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE
from peruserd.core.cluster.explanation import OwnerExplanation, explain_lone_owner, explain_owner
from peruserd.core.cluster.views import Feed
from peruserd.core.common.escaping import named, shown


def run(options: argparse.Namespace) -> int:
    """Explain each user's owner; exit 1 where a user has none now."""
    return with_server(options, lambda connected: _owners(connected, options))


def _owners(connected: Connected, options: argparse.Namespace) -> int:
    observed = observe(connected, wait=not options.no_wait)
    prefix = connected.config.databases.prefix
    if observed.attachment.feed is Feed.DATABASE:
        explained = [explain_lone_owner(user, observed.attachment.node, prefix) for user in options.users]
    else:
        not_alive = observed.why_not_alive()
        explained = [explain_owner(user, observed.view, prefix, not_alive) for user in options.users]
    if observed.why_never_started:
        say(f"{observed.why_never_started}; {START}")
    if options.json:
        print_json(explained)
    else:
        print("\n\n".join(map(_in_words, explained)))
    return EXIT_DONE if all(each.owner is not None for each in explained) else EXIT_NOT_DONE


def _in_words(explained: OwnerExplanation) -> str:
    lines = [
        f"{named(explained.user)}: {'nobody' if explained.owner is None else named(explained.owner)}",
        f"  because   {explained.why}",
        f"  document  {shown(explained.document)}",
        f"  database  {explained.database or 'none: no database can have this name'}",
    ]
    if explained.ranges:
        count, first = len(explained.hosts), named(explained.hosts[0].node)
        lines += [
            f"  hash      {explained.hash}, in the range {' and '.join(explained.ranges)}",
            f"  key       {explained.key:08x}; modulo {count} hosts, {explained.key % count}: begin with {first}",
            "  hosts     " + "\n            ".join(f"{named(each.node)}: {each.why}" for each in explained.hosts),
        ]
    if explained.adopters:
        lines.append(f"  adopters  {', '.join(map(named, explained.adopters))}")
    return "\n".join(lines)
