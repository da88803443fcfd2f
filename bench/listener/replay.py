"""The replay of a recorded feed to a real listener: its own process, its own main, its threads, its state on a disk.

Only its sessions are replaced (`bench.listener.server`), and note the time of each request. A replay ends when a report
says that every row is finished, as the last save of the listener has it on disk.
"""

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from unittest import mock

import msgspec
import multiprocess
from multiprocess.connection import Connection

from bench.listener.recording import COPY, ME, OWNERSHIP, record
from bench.listener.server import UUID, Log, RecordedServer
from peruserd.core.cluster.agreement import databases_digest
from peruserd.core.configuration.choices import LogLevel
from peruserd.core.configuration.config import (
    CouchDBConfig,
    DatabasesConfig,
    DeletionConfig,
    LogConfig,
    ProvisioningConfig,
)
from peruserd.core.feed.progress import SavedProgress
from peruserd.core.feed.rows import PAGE_ROWS
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.messages import FromListener, ListenerStart, Report, Stop, decode_from_listener, encode
from peruserd.couch.tokens import NOBODY
from peruserd.listener import listener, process
from peruserd.listener.store import Store

_CONTEXT: Final = multiprocess.get_context("spawn")

# A listener that says nothing for so long has failed. The time to make the recording is part of it.
_PATIENCE_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0

# A listener reads so many pages ahead at once. From then on it reads a page whenever the users of a page are done.
_AHEAD_PAGES: Final = 6
_IN_FLIGHT: Final = ProvisioningConfig().max_in_flight


class Replay(msgspec.Struct, frozen=True):
    """One feed replayed to one listener.

    `pages` are the times of the requests for each page, and of the last request, which got none. All times are in
    seconds since the first request. The last user was done after `seconds`.
    """

    rows: int
    owned: bool
    seconds: float
    pages: tuple[float, ...]

    @property
    def rows_a_second(self) -> float:
        """Return the rate over the whole feed."""
        return self.rows / self.seconds

    def curve(self, pages: int) -> list[tuple[float, float]]:
        """Return seconds and rate of every so many pages, from where reading is as fast as the work behind it."""
        marks = self.pages[_AHEAD_PAGES::pages]
        return [(begin, pages * PAGE_ROWS / (end - begin)) for begin, end in pairwise(marks)]


def replay(rows: int, *, owned: bool) -> Replay:
    """Let a listener follow a feed of so many rows from its start; raises TimeoutError where it stops on the way."""
    with tempfile.TemporaryDirectory(prefix="peruserd-bench-") as directory:
        state_file = Path(directory) / "copy.sqlite"
        _prepare(state_file)
        pipe, theirs = _CONTEXT.Pipe(duplex=True)
        noted, to_note = _CONTEXT.Pipe(duplex=False)
        child: Any = _CONTEXT.Process(
            target=listen,
            args=(encode(_start(state_file)), theirs, to_note, rows),
            kwargs={"owned": owned},
            daemon=True,
        )
        child.start()
        for each in (theirs, to_note):
            each.close()
        try:
            _check(_last_counters(pipe, rows), rows, rows if owned else 0)
            pipe.send_bytes(encode(Stop(_STOP_SECONDS)))
            log = msgspec.msgpack.decode(noted.recv_bytes(), type=Log)
        finally:
            child.kill()
            child.join()
    begin = log.pages[0]
    end = log.last_user if owned else log.pages[-1]
    return Replay(rows, owned, end - begin, tuple(each - begin for each in log.pages))


def listen(start: bytes, pipe: Connection, noted: Connection, rows: int, *, owned: bool) -> None:
    """Run a listener on a recorded feed, in the child process."""
    server = RecordedServer(record(rows, owned=owned))
    try:
        with mock.patch.object(listener, "Session", server.open_session):
            process.main(start, pipe)
    finally:
        noted.send_bytes(msgspec.msgpack.encode(server.log))


def _prepare(state_file: Path) -> None:
    """Leave the state of a listener that has finished everything up to the start of the feed: there is no scan."""
    store = Store.open(state_file)
    store.save(SavedProgress(UUID, 0, OWNERSHIP, covered=(OWNERSHIP,), digest=databases_digest(DatabasesConfig())))
    store.close()


def _start(state_file: Path) -> ListenerStart:
    return ListenerStart(
        copy=COPY,
        ownership=OWNERSHIP,
        upcoming=None,
        instance=ME,
        couchdb=CouchDBConfig(),
        token=NOBODY,
        databases=DatabasesConfig(),
        deletion=DeletionConfig(),
        cluster_database="peruserd",
        log=LogConfig(level=LogLevel.WARNING),
        state_file=str(state_file),
        share=_IN_FLIGHT,
        max_in_flight=_IN_FLIGHT,
        resume_near=None,
        recall_seconds=30.0,
    )


def _last_counters(pipe: Connection, rows: int) -> Counters:
    """Return the counters of the report by which all rows are finished."""
    while pipe.poll(_PATIENCE_SECONDS):
        message: FromListener = decode_from_listener(pipe.recv_bytes())
        if isinstance(message, Report) and message.checkpoint == rows:
            return message.counters
    raise TimeoutError(f"the listener has said nothing for {_PATIENCE_SECONDS:g} s")


def _check(found: Counters, rows: int, owned: int) -> None:
    """Raise RuntimeError where the listener did other work than expected."""
    expected = Counters(
        changes_seen=rows,
        changes_owned=owned,
        users_provisioned=owned,
        looks={"live": owned} if owned else {},
        feed_requests=found.feed_requests,
        latency=found.latency,
    )
    if found != expected or sum(found.latency.buckets) != owned:
        raise RuntimeError(f"the listener did something else than expected: {found}")
