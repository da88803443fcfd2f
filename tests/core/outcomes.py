"""The possible outcomes of work on a document, for tests of their consequences."""

import msgspec

from peruserd.core.users.quarantine import UNSERVABLE_NAME, Advice, Failure

RECALL = 30.0
FAILURES = [Failure("server_error", "500", advice) for advice in Advice] + [
    Failure(UNSERVABLE_NAME, "too long", Advice.GIVE_UP),
    Failure("copy_away", "n2 is away", waits_for=("n2",)),
]
RETRY = FAILURES[0]


class Outcome(msgspec.Struct):
    """The outcome of work."""

    provisioned: bool = False
    whole: bool = False
    acted_on: bool | None = None
