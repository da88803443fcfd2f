import base64
import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import multiprocess
import psutil
import pytest

from peruserd.core.cluster.views import Assignment, View, make_plan
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.choices import DeletionPolicy, LogFormat, LogLevel
from peruserd.core.configuration.config import DeletionConfig, LogConfig
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.processes.messages import (
    CheckToken,
    Credentials,
    FromListener,
    Goodbye,
    Hello,
    Inform,
    ListenerStart,
    Reauthenticate,
    Report,
    Stage,
    Stop,
    ToListener,
    decode_from_listener,
    encode,
)
from peruserd.couch.tokens import basic_token
from peruserd.listener.exit_codes import Exit
from peruserd.listener.process import main
from peruserd.listener.store import Store
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect, settings_of, tokens_of
from tests.listener.forking import forked_listener
from tests.starting import listener_start
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.processes

_NEW_INTERPRETER = multiprocess.get_context("spawn")
PASSWORD = "hunter2-s3cret"

Capture = pytest.CaptureFixture[str]


def _assignments(cluster: SimClusterThread, instances: tuple[int, ...] = (1,)) -> tuple[Assignment, ...]:
    """Return the assignments of node 1's instance, if these nodes have instances."""
    names = tuple(cluster.node_names)
    shard_map = connect(cluster.urls[0]).shard_map("_local", "_users")
    alive = tuple(names[number - 1] for number in instances)
    return make_plan(View(names, alive, shard_map), names[0]).assignments


class Child:
    """A listener as its supervisor sees it; with `anew` it is a new interpreter instead of a fork."""

    def __init__(self, start: ListenerStart, *, anew: bool = False) -> None:
        self.pipe, theirs = multiprocess.Pipe(duplex=True)
        self.process: Any = (
            _NEW_INTERPRETER.Process(target=main, args=(encode(start), theirs), daemon=True)
            if anew
            else forked_listener(encode(start), theirs)
        )
        self.process.start()
        theirs.close()
        self.pid: int = self.process.pid
        self.heard: list[FromListener] = []

    def send(self, message: ToListener) -> None:
        """Send it a message."""
        self.pipe.send_bytes(encode(message))

    def listen(self) -> None:
        """Receive its messages."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                self.heard.append(decode_from_listener(self.pipe.recv_bytes()))

    @property
    def report(self) -> Report | None:
        """Return its newest report."""
        self.listen()
        return next((each for each in reversed(self.heard) if isinstance(each, Report)), None)

    def until_caught_up(self) -> None:
        """Wait until it reports that it has caught up."""
        eventually(lambda: self.report is not None and self.report.caught_up, "the listener has caught up")

    def until_greeted(self) -> None:
        """Wait until it says hello."""

        def greeted() -> bool:
            self.listen()
            return bool(self.heard)

        eventually(greeted, "the listener said hello")
        assert isinstance(self.heard[0], Hello)

    def exit_code(self, within_seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; return its exit code."""
        self.process.join(within_seconds)
        assert self.process.exitcode is not None, "the listener has not ended"
        self.listen()
        return int(self.process.exitcode)

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.send(Stop(10.0))
        return self.exit_code()

    def end(self) -> None:
        """End its process and close its pipe."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


Begin = Callable[..., Child]


@pytest.fixture
def begin(cluster: SimClusterThread, tmp_path: Path) -> Iterator[Begin]:
    """Start a listener of node 1's copy of a range, by default the first one; all users are its own."""
    children: list[Child] = []

    def made(index: int = 0, *, instances: tuple[int, ...] = (1,), url: str | None = None, **changes: Any) -> Child:
        assignment = _assignments(cluster, instances)[index]
        couchdb, credentials = settings_of(url or cluster.urls[0])
        start = listener_start(
            assignment,
            instance=cluster.node_names[0],
            couchdb=couchdb,
            token=tokens_of(credentials).current,
            log=LogConfig(format=LogFormat.JSON, level=LogLevel.DEBUG),
            state_file=str(tmp_path / f"range-{index}.sqlite"),
        )
        children.append(Child(msgspec.structs.replace(start, **changes)))
        return children[-1]

    yield made
    for child in children:
        child.end()


def _users_in(cluster: SimClusterThread, index: int = 0) -> list[str]:
    """Return the names of the users in a range, signed up now or deleted."""
    covered = str(_assignments(cluster)[index].copy.range)
    revs = cluster.snapshot_copies("_users")[cluster.node_names[0]][covered]["revs"]
    return [each.removeprefix("org.couchdb.user:") for each in revs if not each.startswith("_design/")]


def _is_served(cluster: SimClusterThread, user: str) -> bool:
    """Say whether all copies of the user's database name the user as admin and member."""
    objects = [each for copies in cluster.snapshot_security(_database(user)).values() for each in copies.values()]
    return len(objects) == 3 and all(
        each.get(section, {}).get("names") == [user] for each in objects for section in ("admins", "members")
    )


def _delete(cluster: SimClusterThread, user: str) -> None:
    client = connect(cluster.urls[1])
    path = f"/_users/{user_document_id(user)}"
    rev = client.session.request("GET", path).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200)


def _database(user: str) -> str:
    return database_name("userdb-", user)


def _served(cluster: SimClusterThread, index: int = 0) -> bool:
    return all(_is_served(cluster, user) for user in _users_in(cluster, index))


# Its life


def test_a_listener_serves_its_users(cluster: SimClusterThread, begin: Begin) -> None:
    """Users who are there and users who come get their databases, and the work is reported."""
    cluster.seed_users(10)
    child = begin()
    child.until_caught_up()
    assert isinstance(child.heard[0], Hello)
    assert _served(cluster)
    for number in range(10):
        cluster.add_user(f"late{number}", "x")
    eventually(lambda: _served(cluster), "those who came late are served")
    users = _users_in(cluster)
    eventually(lambda: child.report and child.report.counters.users_provisioned == len(users), "all are reported")
    report = child.report
    assert report is not None
    assert report.stage is Stage.FOLLOWING
    assert (report.waiting, report.in_flight, report.quarantined) == (0, 0, 0)
    assert report.counters.databases_created == report.counters.security_writes == len(users)
    assert set(cluster.databases()) == {"_users", *map(_database, users)}


def test_a_deleted_user_loses_access(cluster: SimClusterThread, begin: Begin) -> None:
    """A deletion is acted on after the creation, by the policy."""
    cluster.seed_users(10)
    child = begin()
    child.until_caught_up()
    user = _users_in(cluster)[0]
    _delete(cluster, user)
    eventually(lambda: child.report and child.report.counters.users_revoked == 1, "the user is revoked")
    assert user not in str(cluster.snapshot_security(_database(user)))


def test_other_owners_change_what_a_listener_does(cluster: SimClusterThread, begin: Begin) -> None:
    """Users of other instances are left alone until the listener is told that it owns them."""
    cluster.seed_users(30)
    child = begin(instances=(1, 2, 3))
    child.until_caught_up()
    (shared,) = [each for each in _assignments(cluster, (1, 2, 3)) if each.copy == _assignments(cluster)[0].copy]
    mine = shared.ownership.belongs_to(cluster.node_names[0])
    users = _users_in(cluster)
    own = {_database(user) for user in users if mine(user_document_id(user))}
    assert own
    assert set(cluster.databases()) == {"_users", *own}
    assert len(own) < len(users)
    child.send(Inform(1, _assignments(cluster)[0].ownership, None, 2))
    eventually(
        lambda: child.report and child.report.informed == 1 and child.report.caught_up, "it has caught up with that"
    )
    assert _served(cluster)
    assert cluster.creations() == {_database(user): 1 for user in users}


def test_a_listener_goes_on_where_it_was(cluster: SimClusterThread, begin: Begin) -> None:
    """After a restart the checkpoint holds: nothing is scanned, and right databases are not written."""
    cluster.seed_users(10)
    child = begin()
    child.until_caught_up()
    assert child.stop() == Exit.DONE
    cluster.clear_requests()
    second = begin()
    second.until_caught_up()
    report = second.report
    assert report is not None
    assert report.counters.changes_seen == 0
    assert not [key for key in cluster.requests() if key[1] == "PUT"]


# Its end


def test_a_listener_told_to_stop_says_goodbye(cluster: SimClusterThread, begin: Begin) -> None:
    """Its last word is a reason, after a last report, and its exit code says that all is well."""
    cluster.seed_users(5)
    child = begin()
    child.until_caught_up()
    assert child.stop() == Exit.DONE
    assert isinstance(child.heard[-2], Report)
    assert child.heard[-1] == Goodbye("told to")


def test_a_signal_ends_a_listener_in_the_middle_of_a_long_poll(cluster: SimClusterThread, begin: Begin) -> None:
    """SIGTERM is an orderly end, long before the poll would come back."""
    child = begin()
    child.until_caught_up()
    eventually(
        lambda: sum(n for (_, _, kind), n in cluster.requests().items() if kind == "shard_changes") >= 3,
        "a poll waits",
    )
    os.kill(child.pid, signal.SIGTERM)
    assert child.exit_code(within_seconds=20.0) == Exit.DONE
    assert isinstance(child.heard[-1], Goodbye)


def test_a_listener_stops_while_its_server_is_silent(cluster: SimClusterThread, begin: Begin) -> None:
    """A server that never answers does not keep a listener from stopping."""
    cluster.fail(1, "hang", path_regex="shards")
    child = begin()
    eventually(lambda: [key for key in cluster.requests() if key[2] == "shard"], "a request hangs")
    child.send(Stop(0.1))
    assert child.exit_code(within_seconds=20.0) == Exit.DONE
    cluster.clear_faults()


def test_work_in_flight_is_finished_before_the_end(cluster: SimClusterThread, begin: Begin) -> None:
    """A user whose service is under way at the stop is served completely, and not again by the next listener."""
    child = begin()
    child.until_caught_up()
    cluster.set_delay(1, 0.3, "_security")
    name = next(f"u{number}" for number in range(100) if _is_in_first_range(f"u{number}"))
    cluster.add_user(name, "x")
    eventually(cluster.creations, "the database is made")
    assert child.stop() == Exit.DONE
    assert _is_served(cluster, name)
    cluster.set_delay(1, 0.0, "_security")
    cluster.clear_requests()
    begin().until_caught_up()
    assert cluster.creations() == {}


def _is_in_first_range(name: str) -> bool:
    return document_hash(user_document_id(name)) < 1 << 31


def test_a_terminals_interrupt_is_not_for_listeners(begin: Begin) -> None:
    """^C reaches every process of the terminal; what follows is the supervisor's to decide."""
    child = begin()
    child.until_caught_up()
    os.kill(child.pid, signal.SIGINT)
    assert child.stop() == Exit.DONE


def test_a_listener_whose_pipe_is_closed_ends(begin: Begin) -> None:
    """Without a supervisor a listener finishes its work and ends."""
    child = begin()
    child.until_caught_up()
    child.pipe.close()
    assert child.exit_code() == Exit.DONE


def test_a_listener_whose_last_words_nobody_reads_ends(cluster: SimClusterThread, begin: Begin) -> None:
    """A pipe that is closed with messages in it breaks otherwise than an empty one."""
    child = begin()
    child.until_caught_up()
    cluster.seed_users(10)
    eventually(child.pipe.poll, "a report waits to be read")
    child.pipe.close()
    assert child.exit_code() == Exit.DONE


_PARENT = """
import sys, time
import multiprocess
from peruserd.listener.process import main
if __name__ == "__main__":
    context = multiprocess.get_context("spawn")
    mine, theirs = context.Pipe()
    child = context.Process(target=main, args=(bytes.fromhex(sys.stdin.readline()), theirs))
    child.start()
    mine.recv_bytes()
    print(child.pid, flush=True)
    time.sleep(600)
"""


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_listener_does_not_outlive_its_parent(cluster: SimClusterThread, tmp_path: Path) -> None:
    """For any end of the supervisor, even by SIGKILL, its listener ends at once."""
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    assignment = _assignments(cluster)[0]
    couchdb, credentials = settings_of(cluster.urls[0])
    start = listener_start(
        assignment,
        instance=cluster.node_names[0],
        couchdb=couchdb,
        token=tokens_of(credentials).current,
        state_file=str(tmp_path / "copy.sqlite"),
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        try:
            assert parent.stdin is not None
            assert parent.stdout is not None
            parent.stdin.write(encode(start).hex() + "\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            assert not _is_gone(pid)
        finally:
            parent.kill()
    eventually(lambda: _is_gone(pid), "the listener is gone")


# Its state


def test_a_second_listener_on_a_state_file_ends(begin: Begin, capfd: Capture) -> None:
    """Two listeners on one file are a mistake, so the second one reports it and ends; the first goes on."""
    first = begin()
    first.until_greeted()
    second = begin()
    assert second.exit_code() == Exit.AGAIN
    assert not [each for each in second.heard if isinstance(each, Hello)]
    assert "in use by another process" in capfd.readouterr().err
    assert first.stop() == Exit.DONE


def test_a_damaged_state_file_costs_a_scan(
    cluster: SimClusterThread, begin: Begin, tmp_path: Path, capfd: Capture
) -> None:
    """The file is set aside with a warning, and everybody is looked at again."""
    cluster.seed_users(10)
    child = begin()
    child.until_caught_up()
    child.stop()
    (tmp_path / "range-0.sqlite").write_bytes(b"nonsense" * 1000)
    cluster.clear_requests()
    second = begin()
    second.until_caught_up()
    report = second.report
    assert report is not None
    assert report.counters.users_provisioned == len(_users_in(cluster))
    assert report.counters.security_writes == 0
    assert cluster.creations() == {}
    assert "set aside" in capfd.readouterr().err


def _let_files_grow_by(child: Child, directory: Path, spare: int) -> None:
    """Let no file of a listener grow any more; the kernel answers as a full disk does."""
    size = max(each.stat().st_size for each in directory.iterdir())
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (size + spare, resource.RLIM_INFINITY))


def test_a_full_disk_holds_a_listener_and_leaves_nothing_half_done(
    cluster: SimClusterThread, begin: Begin, tmp_path: Path
) -> None:
    """No database is made that nobody secures. Once there is room again, the same process serves everybody."""
    child = begin()
    child.until_caught_up()
    _let_files_grow_by(child, tmp_path, 20_000)
    cluster.seed_users(100)

    def is_on_hold() -> bool:
        report = child.report
        return report is not None and (report.on_hold or "").startswith("state cannot be written: cannot keep state in")

    eventually(is_on_hold, "the listener is on hold")
    report = child.report
    assert report is not None
    assert not report.caught_up
    served = {each for each in _users_in(cluster) if _is_served(cluster, each)}
    assert len(served) < len(_users_in(cluster))
    eventually(lambda: set(cluster.creations()) == _databases_of_served(cluster), "what was begun is complete")
    _let_files_grow_by(child, tmp_path, 1 << 30)
    eventually(lambda: _served(cluster), "everybody is served")
    child.until_caught_up()
    assert child.stop() == Exit.DONE


def _databases_of_served(cluster: SimClusterThread) -> set[str]:
    return {_database(each) for each in _users_in(cluster) if _is_served(cluster, each)}


def test_a_listener_on_hold_ends_when_it_is_told_to(cluster: SimClusterThread, begin: Begin) -> None:
    """Workers that wait for the disk end at once. The next start repeats the work, and loses nobody."""
    child = begin()
    child.until_caught_up()
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    cluster.seed_users(20)
    eventually(lambda: child.report is not None and child.report.on_hold, "the listener is on hold")
    assert child.stop() == Exit.DONE
    goodbye = child.heard[-1]
    assert isinstance(goodbye, Goodbye)
    assert goodbye.reason == "told to"
    begin().until_caught_up()
    assert _served(cluster)


def test_a_replaced_copy_ends_a_listener_to_be_started_again(cluster: SimClusterThread, begin: Begin) -> None:
    """A copy made again has other sequences; the next listener scans it and loses nobody."""
    cluster.seed_users(10)
    child = begin()
    child.until_caught_up()
    cluster.rebuild_copy(1, "_users", str(_assignments(cluster)[0].copy.range))
    assert child.exit_code() == Exit.AGAIN
    goodbye = child.heard[-1]
    assert isinstance(goodbye, Goodbye)
    assert "is now" in goodbye.reason
    cluster.seed_users(10, "more")
    begin().until_caught_up()
    assert _served(cluster)


def test_progress_is_what_is_on_disk(cluster: SimClusterThread, begin: Begin, tmp_path: Path) -> None:
    """The next listener begins with the last reported checkpoint."""
    cluster.seed_users(10)
    child = begin()
    child.until_caught_up()
    child.stop()
    report = child.report
    store = Store.open(tmp_path / "range-0.sqlite")
    saved, quarantined, doubts = store.load()
    store.close()
    assert saved is not None
    assert report is not None
    assert (saved.checkpoint, saved.scan) == (report.checkpoint, None)
    assert (quarantined, doubts) == ([], set())


# Killed at any moment


def _sign_up_and_delete(cluster: SimClusterThread, seed: int, names: list[str], done: threading.Event) -> set[str]:
    """Sign users up at an irregular pace and delete some; return the deleted ones."""
    chance = random.Random(seed)
    client = connect(cluster.urls[1])
    deleted: set[str] = set()
    for name in names:
        body = {"name": name, "type": "user", "roles": [], "password": "x"}
        path = f"/_users/{user_document_id(name)}"
        rev = client.session.request("PUT", path, body=body).expect(201).decode(dict[str, Any])["rev"]
        if chance.random() < 0.2:
            client.session.request("DELETE", path, params={"rev": rev}).expect(200)
            deleted.add(name)
        done.wait(chance.random() * 0.02)
    return deleted


@pytest.mark.parametrize("seed", [1, 2])
def test_no_user_is_lost_when_listeners_are_killed(cluster: SimClusterThread, begin: Begin, seed: int) -> None:
    """Listeners are killed at random moments, on a server that fails now and then; every user is right in the end."""
    chance = random.Random(seed)
    names = [f"user{number}" for number in range(150)]
    deleted: set[str] = set()
    never = threading.Event()
    signing_up = threading.Thread(target=lambda: deleted.update(_sign_up_and_delete(cluster, seed, names, never)))
    cluster.fail(1, "cut-after", probability=0.05, path_regex="_security", method="PUT")
    cluster.fail(1, 500, probability=0.05, path_regex="userdb-")
    signing_up.start()
    for _ in range(4):
        children = [begin(index) for index in (0, 1)]
        for child in children:
            child.until_greeted()
        never.wait(chance.random() * 0.7)
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
            assert child.exit_code() == -signal.SIGKILL
    signing_up.join()
    cluster.clear_faults()
    survivors = [begin(index) for index in (0, 1)]
    for child in survivors:
        child.until_caught_up()
        eventually(lambda: child.report and not child.report.quarantined, "the quarantine is empty")  # noqa: B023
    for name in names:
        if name not in deleted:
            assert _is_served(cluster, name), name
        else:
            assert name not in str(cluster.snapshot_security(_database(name)).values()), name


# How it is let in


def _doubts(child: Child) -> list[CheckToken]:
    child.listen()
    return [each for each in child.heard if isinstance(each, CheckToken)]


def test_a_listener_that_is_refused_asks_and_waits_and_no_user_is_to_blame(
    cluster: SimClusterThread, begin: Begin
) -> None:
    """The password changes during the work: the work goes on with the next session, and no user is in quarantine."""
    cluster.seed_users(20)
    _, credentials = settings_of(cluster.urls[0])
    assert credentials is not None
    wrong = basic_token(Credentials(credentials.username, Secret("wrong")), 1)
    child = begin(token=wrong)
    eventually(lambda: _doubts(child), "it doubts what it was given")
    child.send(Reauthenticate(None, "CouchDB refuses the password", _doubts(child)[-1].number))
    eventually(lambda: child.report, "it reports all the same")
    assert not _served(cluster)
    child.send(Reauthenticate(basic_token(credentials, 2)))
    child.until_caught_up()
    assert _served(cluster)
    report = child.report
    assert report is not None
    assert (report.quarantined, report.counters.users_provisioned) == (0, len(_users_in(cluster)))


def test_workers_wait_for_the_next_session(cluster: SimClusterThread, begin: Begin) -> None:
    """Users who sign up while the server refuses the session are served afterwards as usual."""
    child = begin()
    child.until_caught_up()
    child.send(Reauthenticate(None, "CouchDB refuses the password"))
    cluster.seed_users(10, "late")
    _, credentials = settings_of(cluster.urls[0])
    assert credentials is not None
    child.send(Reauthenticate(basic_token(credentials, 2)))
    eventually(lambda: _served(cluster), "all are served")
    assert child.report is not None
    assert child.report.quarantined == 0


def test_a_worker_that_notes_a_deletion_waits_for_the_next_session(cluster: SimClusterThread, begin: Begin) -> None:
    """A refused session is no failure of a user whose deletion was about to be noted."""
    cluster.seed_users(3)
    connect(cluster.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
    child = begin(deletion=DeletionConfig(policy=DeletionPolicy.DROP))
    child.until_caught_up()
    cluster.fail(1, 401, path_regex="^/peruserd/")
    user = _users_in(cluster)[0]
    _delete(cluster, user)
    eventually(lambda: _doubts(child), "a worker doubts what it was given")
    child.send(Reauthenticate(None, "CouchDB refuses the password", _doubts(child)[-1].number))
    cluster.clear_faults()
    _, credentials = settings_of(cluster.urls[0])
    assert credentials is not None
    child.send(Reauthenticate(basic_token(credentials, 2)))
    eventually(lambda: child.report and child.report.counters.users_revoked == 1, "the deletion is noted")
    assert child.report is not None
    assert child.report.counters.failures == {}


def test_a_path_that_is_closed_is_that_users_trouble_alone(cluster: SimClusterThread, begin: Begin) -> None:
    """A user whose own code throws goes to quarantine once the supervisor has confirmed the session."""
    users = [f"u{number}" for number in range(40)]
    for user in users:
        cluster.add_user(user, "x")
    victim = _users_in(cluster)[0]
    cluster.fail(1, 401, path_regex=f"{_database(victim)}/_security")
    child = begin()
    token = tokens_of(settings_of(cluster.urls[0])[1]).current
    answered = 0

    def caught_up() -> bool:
        nonlocal answered
        for doubt in _doubts(child)[answered:]:
            child.send(Reauthenticate(token, None, doubt.number))
            answered += 1
        return child.report is not None and child.report.caught_up and child.report.quarantined == 1

    eventually(caught_up, "the one is in quarantine, and the others are served")
    assert answered > 0
    assert [each for each in _users_in(cluster) if not _is_served(cluster, each)] == [victim]


def test_a_listener_that_waits_to_be_let_in_stops_at_once(cluster: SimClusterThread, begin: Begin) -> None:
    """The users whom it was about to serve stay behind the checkpoint, and its successor serves them."""
    cluster.seed_users(10)
    _, credentials = settings_of(cluster.urls[0])
    assert credentials is not None
    cluster.fail(1, 401, path_regex="userdb-")
    child = begin()
    eventually(lambda: _doubts(child), "workers doubt what they were given")
    child.send(Reauthenticate(None, "CouchDB refuses the password", _doubts(child)[-1].number))
    child.send(Stop(1e6))
    assert child.exit_code() == Exit.DONE
    cluster.clear_faults()
    successor = begin()
    successor.until_caught_up()
    assert _served(cluster)
    assert successor.report is not None
    assert successor.report.quarantined == 0


# Its secrets


def test_the_password_is_nowhere_to_be_seen(tmp_path: Path, capfd: Capture) -> None:
    """Not in the process list, not in the state, not in any log line, whatever goes wrong."""
    with SimClusterThread(ClusterOptions(user=f"adm:{PASSWORD}")) as cluster:
        cluster.seed_users(10)
        assignment = _assignments(cluster)[0]
        for outcome in (500, "cut", "cut-mid"):
            cluster.fail(1, outcome, count=1, path_regex="_changes")
            cluster.fail(1, outcome, count=1, path_regex="userdb-")
        couchdb, credentials = settings_of(cluster.urls[0])
        child = Child(
            listener_start(
                assignment,
                instance=cluster.node_names[0],
                couchdb=couchdb,
                token=tokens_of(credentials).current,
                log=LogConfig(format=LogFormat.JSON, level=LogLevel.DEBUG),
                state_file=str(tmp_path / "copy.sqlite"),
            ),
            anew=True,
        )
        try:
            child.until_greeted()
            seen = Path(f"/proc/{child.pid}/cmdline").read_bytes() + Path(f"/proc/{child.pid}/environ").read_bytes()
            child.until_caught_up()
            cluster.stop_node(1)
            eventually(lambda: child.report and child.report.stage is Stage.CONNECTING, "the node is missed")
            for path in tmp_path.glob("copy.sqlite*"):
                seen += path.read_bytes()
            assert child.stop() == Exit.DONE
            for path in tmp_path.glob("copy.sqlite*"):
                seen += path.read_bytes()
        finally:
            child.end()
    log = capfd.readouterr()
    seen += (log.err + log.out).encode()
    assert "following" in log.err
    for secret in (PASSWORD.encode(), base64.b64encode(f"adm:{PASSWORD}".encode())):
        assert secret not in seen
    assert os.environ.get("PERUSERD_COUCHDB_PASSWORD") is None
