"""`peruserd demo`: watch the main job on a simulated cluster."""

import argparse
import random
import sys

import msgspec

from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE, EXIT_USAGE


def run(options: argparse.Namespace) -> int:
    """Play the demo; exit 0 only if every user was left with a correct database."""
    try:
        from peruserd.demo import instances, scenario, show  # noqa: PLC0415 - an extra, missing in a plain install
    except ModuleNotFoundError as error:
        print(
            f"peruserd demo: {error.name} is missing; install the extra, from the sources: pip install '.[demo]'",
            file=sys.stderr,
        )
        return EXIT_USAGE
    asked = scenario.Options(
        nodes=options.nodes,
        q=options.q,
        users=options.users,
        rate=options.rate,
        seed=options.seed if options.seed is not None else random.randrange(2**32),  # noqa: S311 - any will do
        once=options.once or options.json,
    )
    try:
        result = scenario.play(asked, show.choose_show(silent=options.json))
    except (instances.InstanceFailedError, scenario.TimedOutError, RuntimeError) as error:
        print(f"peruserd demo: {error}", file=sys.stderr)
        return EXIT_NOT_DONE
    if options.json:
        print(msgspec.json.encode(result).decode())
    else:
        _summarize(result)
    return EXIT_DONE if result.good else EXIT_NOT_DONE


def _summarize(result: "scenario.Result") -> None:  # type: ignore[name-defined] # noqa: F821 - imported above, if there
    latency = "" if result.p50_ms is None else f"; sign-up to secured p50 {result.p50_ms} ms, p99 {result.p99_ms} ms"
    print(
        f"\n{result.users} users signed up; {result.provisioned} have a database, {result.secured} of these are right "
        f"in every copy{latency}; {result.listener_restarts} listener restarted; {result.seconds} s"
    )
    for wrong in result.wrong:
        print(f"wrong: {wrong}")
    print("every user has a private database" if result.good else "NOT every user has a correct database")
