"""An instance's ways to its node: one that lets all of them in, and a session for each thread that waits for another.

A thread that waits for a long poll, or for a node that does not answer, must not keep the others from theirs.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from peruserd.core.config import Config, CouchDBConfig
from peruserd.couch.authenticator import Answers, Authenticator
from peruserd.couch.client import Client
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.refusals import RefusalFile
from peruserd.couch.session import Session

# A lease that cannot be written within this is late already, and a stop must not hang on the last one.
_LONGEST_BEAT_SECONDS: Final = 5.0


class Connections:
    """The clients of an instance. `tell` hears what listeners' requests are to carry.

    `looking` serves the watcher. `hurried` serves it where a copy that does not answer, or a setting that is hidden,
    must not keep it for long. `beating` serves the heart and `waiting` the map watch, which both end by themselves.
    """

    def __init__(
        self, config: Config, source: CredentialSource, record: RefusalFile, tell: Callable[[Answers | None], None]
    ) -> None:
        self.authenticator = Authenticator(config.couchdb, source, record, tell)
        self.tokens = self.authenticator.tokens
        hasty = _hasty(config.couchdb)
        self.looking = Client(Session(config.couchdb, self.tokens))
        self.hurried = Client(Session(hasty, self.tokens))
        self.beating = Client(Session(hasty, self.tokens))
        self.waiting = Client(Session(config.couchdb, self.tokens))

    def interrupt(self) -> None:
        """Let nobody wait to be let in, and end what the watcher waits for."""
        self.tokens.close()
        self.looking.session.interrupt()
        self.hurried.session.interrupt()


def _hasty(couchdb: CouchDBConfig) -> CouchDBConfig:
    """Return how to reach the node for what is worth nothing when it is late."""
    return msgspec.structs.replace(
        couchdb,
        connect_timeout=min(couchdb.connect_timeout, _LONGEST_BEAT_SECONDS),
        read_timeout=min(couchdb.read_timeout, _LONGEST_BEAT_SECONDS),
    )
