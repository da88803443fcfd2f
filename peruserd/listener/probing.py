"""The thread of a listener that asks the cluster whether it serves, and when it asks."""

from peruserd.core.processes.messages import ListenerStart
from peruserd.couch.client import Client
from peruserd.couch.errors import InterruptedRequestError
from peruserd.couch.probe import MAX_SECONDS, Probe, open_probe
from peruserd.couch.session import Session
from peruserd.couch.tokens import Tokens
from peruserd.listener.failures import Failures


class Prober:
    """Asks the cluster whether it serves, whenever a user failed and the cluster may be the cause."""

    def __init__(self, probe: Probe, failures: Failures) -> None:
        self._probe = probe
        self._failures = failures

    def run(self) -> None:
        """Ask whenever it is wanted, until the listener stops."""
        while self._failures.wait_for_probe():
            try:
                why = self._probe.ask()
            except InterruptedRequestError:
                return
            self._failures.probed(why)


def open_prober(start: ListenerStart, tokens: Tokens, failures: Failures) -> tuple[Prober, Session]:
    """Return the prober of a listener, and its session."""
    session = Session(start.couchdb.with_timeouts_up_to(MAX_SECONDS), tokens)
    return Prober(open_probe(Client(session), start.cluster_database, start.copy), failures), session
