"""`peruserd demo`: watch the main job on a simulated cluster."""

import argparse
import random

from peruserd.cli.output import CommandError, print_json
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE, EXIT_USAGE
from peruserd.core.common.escaping import counted


def run(options: argparse.Namespace) -> int:
    """Play the demo; exit 0 only if every user has a correct database at the end."""
    try:
        from peruserd.demo import instances, scenario, show  # noqa: PLC0415 - an extra, missing in a plain install
    except ModuleNotFoundError as error:
        words = f"demo: {error.name} is missing; install the extra, from the sources: pip install '.[demo]'"
        raise CommandError(EXIT_USAGE, "missing_extra", words) from error
    asked = scenario.Options(
        nodes=options.nodes,
        q=options.q,
        users=options.users,
        rate=options.rate,
        seed=options.seed if options.seed is not None else random.randrange(2**32),  # noqa: S311 - any will do
        once=(options.once or options.json) and not options.stay,
    )
    try:
        result = scenario.play(asked, show.choose_show(silent=options.json))
    except (instances.InstanceFailedError, scenario.TimedOutError, RuntimeError) as error:
        raise CommandError(EXIT_NOT_DONE, "demo_failed", f"demo: {error}") from error
    if options.json:
        print_json(result)
    else:
        _summarize(result)
    return EXIT_DONE if result.good else EXIT_NOT_DONE


def _summarize(result: "scenario.Result") -> None:  # type: ignore[name-defined] # noqa: F821 - imported above, if there
    latency = "" if result.p50_ms is None else f"; sign-up to secured p50 {result.p50_ms} ms, p99 {result.p99_ms} ms"
    restarts = counted(result.listener_restarts, "restart")
    print(
        f"\n{counted(result.users, 'user')} signed up; {result.provisioned} have a database, {result.secured} of these "
        f"are right in every copy{latency}; {restarts} of listeners; {result.seconds} s"
    )
    for wrong in result.wrong:
        print(f"wrong: {wrong}")
    print("every user has a private database" if result.good else "NOT every user has a correct database")
