"""A listener with all its parts: its threads, its control pipe, and the order of its end.

The main thread obeys the pipe, writes the progress to disk and reports; the follower, the scanner and the workers each
have threads of their own. Reports carry the rounds of the follower's loop, never those of the main thread's, so a feed
loop that hangs shows as silence.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import msgspec
import structlog
from multiprocess.connection import Connection, wait

from peruserd import logs, threads, tracebacks
from peruserd.core.cluster.agreement import databases_digest
from peruserd.core.cluster.views import Feed
from peruserd.core.configuration.config import MAX_IN_FLIGHT
from peruserd.core.feed.progress import OnDisk
from peruserd.core.processes.messages import (
    CheckToken,
    CompareNames,
    FromListener,
    Goodbye,
    Hello,
    Inform,
    JournalNews,
    ListenerStart,
    Look,
    LookAtAll,
    Reauthenticate,
    Reconfigure,
    Stop,
    TakeOverDoubts,
    ToListener,
    decode_to_listener,
    encode,
)
from peruserd.core.processes.shortages import is_shortage
from peruserd.core.scheduling.listener_state import ListenerState
from peruserd.core.users.inquiries import Inquiry
from peruserd.couch.client import Client
from peruserd.couch.copies import open_copies
from peruserd.couch.errors import InterruptedRequestError, RefusedError
from peruserd.couch.session import Session
from peruserd.couch.sources import open_source
from peruserd.couch.tally import TALLY
from peruserd.couch.tokens import Tokens
from peruserd.listener import usage
from peruserd.listener.audit_setup import AuditSetup
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.deletion_setup import Owned, open_deletions
from peruserd.listener.disk import Disk
from peruserd.listener.exit_codes import Exit
from peruserd.listener.feed import CopyReplacedError, Follower, Scanner, Stopped
from peruserd.listener.probing import open_prober
from peruserd.listener.provisioner import Provisioner
from peruserd.listener.retired_files import RetiredFiles
from peruserd.listener.saving import Saving
from peruserd.listener.store import Store, StoreError
from peruserd.listener.template_writer import template_writer_of
from peruserd.listener.wakeup import Wakeup
from peruserd.listener.workers import Workers
from peruserd.threads import LastingThread

# How often progress is written and reported while there is work. After a crash the next process repeats at most the
# work of this time. At four times a second, writing took a tenth of the processor time of serving 10 users a second.
_SAVE_SECONDS: Final = 0.5

# Progress is first written this long after rows were read, when the work on them is probably over.
_FIRST_SAVE_SECONDS: Final = 0.1

# How long a reader waits for the server to let the instance in before it reports that it is alive. It is well below the
# silence that a supervisor tolerates.
_READER_PATIENCE_SECONDS: Final = 10.0

# How often the main thread looks whether all threads live.
_LOOK_SECONDS: Final = 10.0

# How long a stop may take without a Stop message, which brings its own limit.
_STOP_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class ThreadError(Exception):
    """A thread of the listener hangs, or has ended unasked."""


class Listener:
    """One listener with all its parts; `run` is its main thread."""

    def __init__(self, start: ListenerStart, pipe: Connection, store: Store, disk: Disk) -> None:
        self._pipe = pipe
        disk.on_error = self._fail
        self._wakeup = Wakeup()
        self._fault: BaseException | None = None
        self._stop_within: float | None = None
        self._leaving = False
        self._informed = 0
        self._look_at = 0.0
        state = ListenerState(
            start.instance,
            start.ownership,
            OnDisk(*store.load()),
            upcoming=start.upcoming,
            share=start.share,
            new_per_minute=start.new_per_minute,
            nodes=start.nodes,
            cut_off=start.cut_off,
            resume_near=start.resume_near,
            recall_seconds=start.recall_seconds,
            digest=databases_digest(start.databases),
            now=time.monotonic(),
        )
        self._tracker = ChangeTracker(state, store, self._wakeup.set)
        self._saving = Saving(disk, self._tracker.gate, store, self._tracker.save)
        self._retired_files = RetiredFiles(store.path.parent, self._tracker.take_over_doubts)
        self._sending = threading.Lock()
        self._tokens = Tokens(start.token, lambda number, node: self._send(CheckToken(number, node)))
        if start.token is None:
            self._tokens.refuse(RefusedError("the server has not let this instance in yet"))
        sessions = [Session(start.couchdb, self._tokens, patience_seconds=_READER_PATIENCE_SECONDS) for _ in range(2)]
        self._feed, self._scan = (
            open_source(start.copy, Client(session), start.couchdb.long_poll_timeout) for session in sessions
        )
        # A worker waits, without a limit, until the server lets the instance in, because that is no failure of the
        # user.
        client = Client(
            Session(start.couchdb, self._tokens, connections=MAX_IN_FLIGHT, patience_seconds=float("inf")),
            directory=start.copy.feed is Feed.SHARD,
        )
        copies = open_copies(client, start.copy)
        self._prober, self._probe_session = open_prober(start, self._tokens, self._tracker.failures)
        self._owned = Owned(start.instance, start.ownership, start.upcoming)
        self._deletions, self._deletion_session = open_deletions(
            start, self._tokens, client, self._tracker, self._owned
        )
        self._uses_journal = start.deletion.uses_journal
        self._stopping = threading.Event()
        audited = (self._tracker, self._owned, self._deletions.knows)
        self._audit = AuditSetup(start, self._tokens, *audited, self._stopping, self._wakeup.set)
        self._provisioner = Provisioner(
            client,
            copies,
            databases=start.databases,
            deletion=start.deletion,
            deletions=self._deletions,
            intents=self._tracker.intents,
            access=start.access,
            template_writer=template_writer_of(client, start),
            connected=lambda: state.documents.nodes,
        )
        self._workers = Workers(
            self._tracker, self._provisioner, start.max_in_flight, self._fail, is_stopping=self._stopping.is_set
        )

    def run(self) -> Exit:
        """Listen until told to stop, or until it cannot go on; return the exit code."""
        self._obey_signals()
        self._send(Hello())
        self._workers.start()
        self._start_thread("follower", Follower(self._feed, self._tracker, self._stopping).run)
        scanner = Scanner(self._scan, self._tracker, self._stopping, self._provisioner.find_missing)
        self._start_thread("scanner", scanner.run)
        if self._uses_journal:
            self._start_thread("deletions", self._deletions.run)
        self._start_thread("auditor", self._audit.auditor.run)
        self._start_thread("prober", self._prober.run)
        try:
            self._serve()
            return self._end()
        except StoreError as error:
            log.error("cannot go on", error=str(error))  # noqa: TRY400 - the sentence says it all
            return Exit.AGAIN

    def _serve(self) -> None:
        # Whether something happened since the last save. Other threads report it by the wake-up.
        unsaved = False
        next_save = 0.0
        while self._stop_within is None and self._fault is None:
            due = self._tracker.queue_due()
            now = time.monotonic()
            if unsaved and now >= next_save:
                unsaved = not self._saving.save(now)
                self._report()
                next_save = max(now + _SAVE_SECONDS, self._saving.try_at or 0.0)
            # The wake-up is watched only while nothing waits to be saved, so a busy listener does not save more often
            # than it may.
            watched: list[Any] = [self._pipe] if unsaved else [self._pipe, self._wakeup]
            deadlines = [each for each in (due, next_save if unsaved else None) if each is not None]
            deadlines.append(self._look_at_threads(now))
            # On hold no file can be taken over, because its doubts could not be kept.
            takes_over = self._retired_files.pending and self._saving.try_at is None
            ready = wait(watched, 0.0 if takes_over else max(0.0, min(deadlines) - now))
            if self._wakeup in ready:
                self._wakeup.clear()
                unsaved = True
                next_save = max(next_save, time.monotonic() + _FIRST_SAVE_SECONDS)
            if self._pipe in ready:
                self._obey()
            elif takes_over:
                self._saving.attempt(self._retired_files.see_to_next)

    def _look_at_threads(self, now: float) -> float:
        """Fail if one of the threads hangs and it is time to look; return the time of the next look."""
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            if (trouble := threads.REGISTER.trouble()) is not None:
                tracebacks.dump()
                self._fail(ThreadError(trouble))
        return self._look_at

    def _obey(self) -> None:
        try:
            message = decode_to_listener(self._pipe.recv_bytes())
        except (EOFError, OSError):
            # The supervisor is gone; the parent watch ends this process, if it comes to that.
            self._stop_within = _STOP_SECONDS
            return
        self._carry_out(message)

    def _carry_out(self, message: ToListener) -> None:
        match message:
            case Inform(number, ownership, upcoming, share, new_per_minute, nodes, cut_off):
                self._tracker.inform(ownership, upcoming, share, new_per_minute, nodes, cut_off=cut_off)
                self._audit.share(share)
                self._informed = number
                if self._owned.change(ownership, upcoming):
                    self._deletions.owners_changed()
            case Reconfigure():
                self._take_over(message)
            case Stop(within_seconds, leaving):
                self._stop_within, self._leaving = within_seconds, leaving
            case JournalNews(usable, spoken_of, pause_changed):
                self._deletions.take_news(frozenset(spoken_of), pause_changed=pause_changed, usable=usable)
            case Look() | LookAtAll() | CompareNames():
                self._tracker.on_request(message)
            case Inquiry():
                self._send(self._tracker.failures.inquire(message))
            case TakeOverDoubts(in_use):
                self._retired_files.look_for(in_use)
            case Reauthenticate():
                self._tokens.follow(message)

    def _take_over(self, message: Reconfigure) -> None:
        log.info("another configuration is in force")
        logs.reconfigure(message.log)
        self._workers.most = message.max_in_flight
        self._tracker.recall_for(message.recall_seconds)
        self._audit.take_over(message)
        self._deletions.config = message.deletion

    def _end(self) -> Exit:
        self._stopping.set()
        self._tracker.gate.close()
        # A worker that waits to be let in would hold up the end; the next start does its work.
        self._tokens.close()
        self._feed.interrupt()
        self._scan.interrupt()
        self._audit.interrupt()
        self._probe_session.interrupt()
        if self._leaving and self._stop_within is not None:
            self._tracker.leave()
            self._stop_within /= 2
            self._tracker.wait_until_left(self._stop_within)
        self._deletions.stop()
        self._tracker.stop()
        in_time = self._tracker.wait_until_idle(self._stop_within if self._stop_within is not None else _STOP_SECONDS)
        self._deletion_session.interrupt()
        self._saving.save_last()
        self._report()
        reason, code = self._verdict(in_time=in_time)
        self._send(Goodbye(reason))
        log.info("stopped", reason=reason)
        return code

    def _verdict(self, *, in_time: bool) -> tuple[str, Exit]:
        match self._fault:
            case None:
                return ("told to" if in_time else "told to; not all work in flight ended in time"), Exit.DONE
            case CopyReplacedError() | StoreError() as error:
                log.warning("to be started again", reason=str(error))
                return str(error), Exit.AGAIN
            case error:
                log.error("fault", exc_info=error)
                return repr(error), Exit.AGAIN if is_shortage(error) else Exit.FAULT

    def _start_thread(self, name: str, run: Callable[[], None]) -> None:
        def run_until_stopped() -> None:
            try:
                run()
            except (Stopped, InterruptedRequestError):
                if self._stopping.is_set():
                    return
                raise
            if not self._stopping.is_set():
                raise ThreadError(f"the thread {name!r} has ended, and nobody had asked it to")

        LastingThread(name, run_until_stopped, on_error=self._fail).start()

    def _fail(self, error: BaseException) -> None:
        self._fault = self._fault or error
        self._wakeup.set()

    def _obey_signals(self) -> None:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._stop_within = _STOP_SECONDS
            self._wakeup.set()

        signal.signal(signal.SIGTERM, stop)
        # A terminal's ^C goes to every process of the group, and `pkill -HUP` to every one of this name. The supervisor
        # alone decides what follows.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _report(self) -> None:
        report = self._tracker.report()
        report.counters.requests, report.counters.request_latency = TALLY.outcomes(), TALLY.latency()
        report = msgspec.structs.replace(
            report,
            usage=usage.measure(),
            deletions=self._deletions.status(),
            audit=self._audit.auditor.status,
            informed=self._informed,
        )
        self._send(report)

    def _send(self, message: FromListener) -> None:
        try:
            with self._sending:
                self._pipe.send_bytes(encode(message))
        except OSError:
            # The supervisor is gone, so nobody could receive the message.
            self._stop_within = _STOP_SECONDS
