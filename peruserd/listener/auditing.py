"""The auditor of a listener: a thread that slowly checks every user of the range, round after round.

The auditor only reads. It hands two kinds of users to the tracker, and the workers look at them:

- users with a difference that a look repairs
- users whom another copy knows and the copy that is followed does not. A listener follows one copy, and that copy can
  stay behind for ever.

A failure of the server is not a finding. The auditor waits until it is over.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, ParamSpec, TypeVar

import msgspec
import structlog

from peruserd import threads
from peruserd.core.audit.diagnosis import Diagnosis, Rules, diagnose, seen_twice
from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import MAX_LOGGED, AuditStatus, Pace, Part, Round
from peruserd.core.cluster.views import Copy
from peruserd.core.common.backoff import Backoff
from peruserd.core.common.names import USER_DOCUMENT_PREFIX, decode_database_name, user_document_id, user_name
from peruserd.core.feed.rows import Row, is_short
from peruserd.couch.errors import CouchError
from peruserd.couch.listing import databases_after
from peruserd.couch.observing import MAX_USERS
from peruserd.couch.revisions import known_of_many
from peruserd.couch.sources import open_source
from peruserd.listener.audit_tools import OF_THE_INSTANCE, Kept, Tools, audited_path, batches, page_or_silence, parts
from peruserd.listener.feed import Persistence, Stopped
from peruserd.listener.jitter import jitter

# Users in one batch. At ten requests a second so few are read within seconds, before the first facts can be outdated.
_BATCH: Final = 20

# A difference is checked again after this. By then, as a rule, a new user is served and a copy has caught up.
_AGAIN_SECONDS: Final = 3.0

# The first round begins about so long after a start. The listener has more urgent work then, and the other instances of
# the cluster may start at the same moment.
_FIRST_SECONDS: Final = 60.0
_ASK_AGAIN_SECONDS: Final = 1.0

# The auditor waits for a cluster without a majority, because that confirms no user at all. It does not wait for single
# users whose copies disagree.
_BLIND: Final = Backoff(initial_seconds=1.0, max_seconds=60.0)
_MAX_BLIND: Final = 8

# A change of the pace has an effect within this time.
_PACE_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class GivenUpError(Exception):
    """A request failed again and again. The rest of the audit goes on."""


class Auditor:
    """`run` is a thread of its own; `status` is for any thread."""

    def __init__(
        self,
        tools: Tools,
        kept: Kept,
        pace: Pace,
        stopping: threading.Event,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._tools = tools
        self._kept = kept
        self._pace = pace
        self._stopping = stopping
        self._wall_clock = wall_clock
        self._persistence = Persistence(
            stopping,
            lambda _kind: None,
            trouble="the audit cannot read; trying again",
            relief="the audit can read again",
        )
        self._rounds = kept.rounds()
        self._total = 0

    @property
    def status(self) -> AuditStatus:
        """Return how the audit stands."""
        return self._rounds.status

    def run(self) -> None:
        """Do one round after the other until the listener stops; raises Stopped and StoreError."""
        self._begin_in_peace()
        while True:
            if self._rounds.running is None:
                self._wait_for_round(self._wall_clock())
            self._do_round()

    def _wait_for_round(self, now: float) -> None:
        self._rest_by_pace(lambda: self._rounds.next_begin(now, self._pace.interval_seconds) - now)

    def _begin_in_peace(self) -> None:
        self._rest(min(_FIRST_SECONDS, self._pace.interval_seconds) * (1.0 + jitter()) / 2)
        while not self._tools.is_calm():
            self._rest(_ASK_AGAIN_SECONDS)

    def _do_round(self) -> None:
        call = self._persistence.call
        identity = call(self._tools.source.identify)
        self._total = call(self._tools.client.documents_in, audited_path(self._tools.copy))
        rules = call(self._tools.rules)
        self._rounds = self._rounds.going_on(identity.uuid, self._wall_clock())
        running = self._running
        log.info("audit round", number=running.number, part=running.part.value, position=running.position)
        reads = {Part.OTHER_COPY: self._read_other, Part.DATABASES: self._read_databases}
        while (part := self._running.part) is not Part.USERS:
            try:
                reads[part](rules)
            except GivenUpError as error:
                log.warning("a part of the audit was left out", part=part.value, error=str(error))
            self._keep(self._running.onwards())
        self._read_users(rules)
        self._end()

    def _end(self) -> None:
        self._rounds = self._rounds.ended(self._wall_clock())
        self._kept.keep_rounds(self._rounds)
        self._tools.on_change()
        last = self._rounds.last
        if last is not None and last.ended is not None:
            found = {kind.value: count for kind, count in last.findings.items()}
            log.info("audit round ended", users=last.users, findings=found, seconds=round(last.ended - last.begun, 1))

    def _look(self, document_ids: Sequence[str]) -> None:
        """Request a look at users as soon as few others wait: a copy that lost everything needs millions of looks."""
        while not self._tools.has_room():
            self._rest(_ASK_AGAIN_SECONDS)
        self._tools.look(document_ids)

    # The revisions that another copy knows

    def _read_other(self, _rules: Rules) -> None:
        """Read another copy each round; where it cannot be read, read the next one instead."""
        for failures in range(1, _MAX_BLIND + 1):
            others = self._persistence.call(self._tools.others)
            for turn in range(len(others)):
                if self._read_copy(others[(self._running.number + turn) % len(others)]):
                    return
            if not others:
                return
            self._rest(_BLIND.delay(failures, jitter()))
        raise GivenUpError("no copy on another node can be read")

    def _read_copy(self, copy: Copy) -> bool:
        """Read the rows of another copy to their end; False where it cannot be read.

        After a restart the copy is read from its start again, so its earlier counts are reset.
        """
        self._keep(msgspec.structs.replace(self._running, findings={}))
        source = open_source(copy, self._tools.client)
        since: int | str = 0
        while True:
            page = self._persistence.call(page_or_silence, source, since)
            if isinstance(page, CouchError):
                log.info("another copy cannot be read by the audit", copy=str(copy), error=str(page))
                return False
            revisions = {each.id: each.rev for each in page.results if each.rev is not None and self._concerns(each)}
            for batch in parts(list(revisions), MAX_USERS):
                self._serve_unknown({each: revisions[each] for each in batch}, copy)
            if page.is_last:
                return True
            since = page.last_seq

    def _serve_unknown(self, revisions: dict[str, str], copy: Copy) -> None:
        unknown = self._unknown(revisions)
        if unknown:
            self._rest(min(_AGAIN_SECONDS, self._pace.interval_seconds))
            unknown = self._unknown({each: revisions[each] for each in unknown})
        if not unknown:
            return
        lacking = self._call(self._tools.observer.lacking, unknown, self._tools.copy.node)
        mine = [each for each in lacking if self._tools.mine(each)]
        if not mine:
            return
        why = f"the copy on {self._tools.copy.node} does not know what the one on {copy.node} has"
        # Users with a row in the followed copy are counted later, when that row is audited.
        strange = [each for each in mine if not lacking[each]]
        self._take([Diagnosis(user_name(each) or "", (Finding.COPY_BEHIND,), words=why) for each in strange])
        self._look(mine)
        self._keep(self._running)

    def _unknown(self, revisions: dict[str, str]) -> list[str]:
        """Return the documents whose revision the followed copy does not know."""
        asked = {each: (rev,) for each, rev in revisions.items()}
        client, path = self._tools.client, audited_path(self._tools.copy)
        known = self._call(known_of_many, client.session, path, asked)
        return [each for each, rev in revisions.items() if rev not in known[each]]

    # Databases without a user

    def _read_databases(self, rules: Rules) -> None:
        prefix = rules.databases.prefix
        is_last = False
        while not is_last:
            after = self._running.position
            names, is_last = self._call(
                databases_after, self._tools.client, prefix, None if after is None else str(after), MAX_USERS
            )
            ids = [user_document_id(user) for each in names if (user := decode_database_name(prefix, each)) is not None]
            ids = [each for each in ids if self._tools.mine(each)]
            if ids and (strangers := self._call(self._tools.observer.unknown_documents, ids)):
                self._take(self._twice(strangers, rules))
            if not is_last:
                self._keep(self._running.at(names[-1]))

    # Every user

    def _read_users(self, rules: Rules) -> None:
        position = self._running.position
        while True:
            page = self._persistence.call(self._tools.source.page, 0 if position is None else position)
            for rows in batches(page.results, self._concerns, _BATCH):
                ids = [each.id for each in rows if self._concerns(each)]
                if ids:
                    diagnoses = self._twice(ids, rules)
                    self._take(diagnoses)
                    wanted = [user_document_id(each.user) for each in diagnoses if self._wants_look(each)]
                    if wanted := [each for each in wanted if self._tools.mine(each)]:
                        self._look(wanted)
                self._keep(self._running.at(rows[-1].seq, rows=len(rows), users=len(ids)))
                elapsed = self._wall_clock() - self._running.begun
                pace = partial(self._pace.rest, elapsed, self._running.rows, len(rows), self._total)
                self._rest_by_pace(pace)
            if page.is_last:
                return
            position = page.last_seq

    def _wants_look(self, diagnosis: Diagnosis) -> bool:
        """Say whether a worker should look: also where a database is to be dropped and the journal has no entry for it.

        The entry can be missing because the policy was another one when the user was deleted, or because the journal
        was lost.
        """
        return diagnosis.wants_look or (
            diagnosis.is_to_drop and not self._tools.waits(user_document_id(diagnosis.user))
        )

    def _concerns(self, row: Row) -> bool:
        return is_short(row) and row.id.startswith(USER_DOCUMENT_PREFIX) and self._tools.mine(row.id)

    def _twice(self, ids: Sequence[str], rules: Rules) -> list[Diagnosis]:
        """Return the diagnoses of these users; a difference counts only if it is seen twice, some seconds apart."""
        found = {each.user: each for each in self._seen(ids, rules) if each.findings or each.is_to_drop}
        if doubtful := [user_document_id(user) for user, each in found.items() if each.differs]:
            self._rest(min(_AGAIN_SECONDS, self._pace.interval_seconds))
            for each in self._seen(doubtful, rules):
                found[each.user] = seen_twice(found[each.user], each)
        diagnoses = [each for each in found.values() if each.findings or each.is_to_drop]
        return [each for each in diagnoses if self._tools.mine(user_document_id(each.user))]

    def _seen(self, ids: Sequence[str], rules: Rules) -> list[Diagnosis]:
        for failures in range(1, _MAX_BLIND + 1):
            found = self._persistence.call(self._tools.observer.observe_each, ids, lambda each: diagnose(each, rules))
            if not found or any(Finding.UNCONFIRMED not in each.findings for each in found):
                break
            self._rest(_BLIND.delay(failures, jitter()))
        return found

    def _call(self, request: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a request for a part of the audit that can be left out; raises GivenUpError where it keeps failing.

        It does wait for a server that is away or does not let this instance in.
        """
        failures = 0

        def once() -> T:
            nonlocal failures
            try:
                return request(*args, **kwargs)
            except OF_THE_INSTANCE:
                raise
            except CouchError as error:
                failures += 1
                if failures < _MAX_BLIND:
                    raise
                raise GivenUpError(str(error)) from error

        return self._persistence.call(once)

    # The record of the round

    @property
    def _running(self) -> Round:
        if self._rounds.running is None:
            raise ValueError("no round goes on")
        return self._rounds.running

    def _take(self, diagnoses: Sequence[Diagnosis]) -> None:
        """Count the findings, and log the first users of each kind."""
        running = self._running
        for each in diagnoses:
            for kind in each.findings:
                count = running.findings.get(kind, 0)
                running = running.found([kind])
                if count < MAX_LOGGED:
                    document = user_document_id(each.user)
                    log.warning("audit finding", finding=kind.value, document=document, words=each.words)
                elif count == MAX_LOGGED:
                    log.warning("audit finding; more of this kind are counted only", finding=kind.value)
        self._rounds = msgspec.structs.replace(self._rounds, running=running)

    def _keep(self, running: Round) -> None:
        self._rounds = msgspec.structs.replace(self._rounds, running=running)
        self._kept.keep_rounds(self._rounds)
        self._tools.on_change()

    def _rest_by_pace(self, seconds: Callable[[], float]) -> None:
        """Rest as long as the pace wants it. A reload can change that during the rest. Raises Stopped."""
        rested = 0.0
        # A stop must be noticed also where the pace wants no rest.
        self._rest(0.0)
        while (left := seconds() - rested) > 0:
            self._rest(min(left, _PACE_SECONDS))
            rested += min(left, _PACE_SECONDS)

    def _rest(self, seconds: float) -> None:
        if threads.pause(self._stopping, max(0.0, seconds)):
            raise Stopped
