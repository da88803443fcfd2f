import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.deletions.journal import Ending, Entry, Kind, Pause, PauseReason, Saying, Word
from peruserd.core.processes.control import (
    Answer,
    DeletionOrder,
    Done,
    Order,
    PauseAll,
    Refused,
    ResumeAll,
    ResumeOnly,
    Say,
)
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.daemon.control import ControlSocket
from peruserd.daemon.operator import Operator
from peruserd.daemon.orders import Orders
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.couch.connecting import connect, session_to


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimClusterThread]:
    """One node with peruserd's own database."""
    with SimClusterThread(ClusterOptions(nodes=1)) as running:
        connect(running.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
        yield running


@pytest.fixture(scope="module")
def journal(cluster: SimClusterThread) -> DeletionJournal:
    """The journal."""
    return DeletionJournal(Journal(session_to(cluster.urls[0]), "peruserd"))


@pytest.fixture
def environment(cluster: SimClusterThread, tmp_path: Path) -> dict[str, str]:
    """The environment that names the server and the state directory."""
    return {"PERUSERD_COUCHDB_URL": cluster.urls[0], "PERUSERD_STATE_DIRECTORY": str(tmp_path)}


@pytest.fixture
def _daemon(journal: DeletionJournal, tmp_path: Path) -> Iterator[None]:
    """The required parts of a daemon: the socket, and the operator that carries out orders."""
    operator = Operator(journal, prefix="userdb-", instance=lambda: "node1@host", on_change=lambda: None)
    serving = ControlSocket(tmp_path, Orders(dict.fromkeys(get_args(DeletionOrder), operator.carry_out)).carry_out)
    serving.start()
    yield
    serving.stop()


def waiting(journal: DeletionJournal, user: str, **more: object) -> Entry:
    """Note that a user's database is to be dropped in a day."""
    now = time.time()
    entry = Entry(
        document=user_document_id(user),
        database=database_name("userdb-", user),
        suffix=".1600000000",
        revision="2-" + "a" * 32,
        noted_at=now - 60,
        due_at=now + 86_400 * 3,
    )
    return journal.note(msgspec.structs.replace(entry, **more))


@pytest.mark.usefixtures("_daemon")
def test_what_waits_can_be_cancelled(journal: DeletionJournal, environment: dict[str, str]) -> None:
    """The word goes through the daemon into the journal, and the exit code says that it was noted."""
    entry = waiting(journal, "ann")
    ran = peruserd("deletions", "cancel", "ann", environment=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    noted, after = ran.stdout.splitlines()
    assert noted == f"ann: noted for {entry.database}"
    assert "within seconds that is final" in after
    assert journal.saying(entry.id).word is Word.CANCEL
    assert journal.saying(entry.id).by == os.geteuid()


@pytest.mark.usefixtures("_daemon")
def test_a_user_for_whom_nothing_waits_is_exit_1(journal: DeletionJournal, environment: dict[str, str]) -> None:
    """The order is carried out for the other named users."""
    entry = waiting(journal, "kim")
    ran = peruserd("deletions", "drop-now", "stranger\x1b[2J", "kim", "--json", environment=environment)
    assert ran.returncode == 1
    assert "stranger\\x1b[2J: nothing waits" in ran.stderr
    assert json.loads(ran.stdout) == {
        "done": False,
        "action": "drop-now",
        "noted": [{"user": "kim", "entry": entry.id, "database": entry.database}],
        "unknown": [{"user": "stranger\x1b[2J", "reason": "nothing waits that this could be said of"}],
        "undo": None,
    }
    assert journal.saying(entry.id).word is Word.DROP_NOW


@pytest.mark.usefixtures("_daemon")
def test_an_id_in_the_place_of_a_name_has_a_hint_in_json(environment: dict[str, str]) -> None:
    """The sentence for people says it as well."""
    ran = peruserd("deletions", "cancel", "org.couchdb.user:kim", "--json", environment=environment)
    (unknown,) = json.loads(ran.stdout)["unknown"]
    assert ran.returncode == 1
    assert unknown["hint"] == "a name is given without 'org.couchdb.user:', which begins the id of its document"
    assert unknown["hint"] in ran.stderr


@pytest.mark.usefixtures("_daemon")
def test_all_is_paused_shown_and_resumed(journal: DeletionJournal, environment: dict[str, str]) -> None:
    """A pause is in force for the whole cluster until it is taken back, and the list begins with it."""
    paused = peruserd("deletions", "pause", environment=environment)
    assert (paused.returncode, paused.stderr) == (0, "")
    assert paused.stdout.startswith("paused: no instance of the cluster deletes a database until `peruserd deletions ")
    assert journal.pause().paused
    listed = peruserd("deletions", "list", environment=environment)
    assert listed.stdout.startswith("all drops are paused (operator, ")
    resumed = peruserd("deletions", "resume", "--json", environment=environment)
    assert resumed.returncode == 0
    assert json.loads(resumed.stdout) == {
        "done": True,
        "action": "resume",
        "noted": [],
        "unknown": [],
        "undo": "peruserd deletions pause",
    }
    assert not journal.pause().paused


@pytest.mark.usefixtures("_daemon")
def test_one_alone_is_paused_and_resumed(journal: DeletionJournal, environment: dict[str, str]) -> None:
    """With names, `pause` and `resume --only` concern only these users, not the pause of all."""
    entry = waiting(journal, "lee")
    paused = peruserd("deletions", "pause", "lee", environment=environment)
    assert paused.stdout.endswith("none of these databases is deleted until `peruserd deletions resume --only lee`\n")
    assert journal.saying(entry.id).word is Word.HOLD
    assert peruserd("deletions", "resume", "--only", "lee", environment=environment).returncode == 0
    said = journal.saying(entry.id)
    assert (said.word, said.resumed) == (Word.NOTHING, True)
    assert not journal.pause().paused


@pytest.mark.usefixtures("_daemon")
def test_a_user_who_came_back_is_released(journal: DeletionJournal, environment: dict[str, str]) -> None:
    """`release` is noted on the return."""
    entry = waiting(journal, "max", kind=Kind.RETURN)
    assert peruserd("deletions", "release", "max", environment=environment).returncode == 0
    assert journal.saying(entry.id).word is Word.RELEASE


@pytest.mark.parametrize("action", [["cancel", "ann"], ["pause"], ["resume"], ["drop-now", "ann"], ["release", "ann"]])
def test_without_a_daemon_it_says_what_to_do(environment: dict[str, str], tmp_path: Path, action: list[str]) -> None:
    """An order that changes something needs the daemon: 75, and a sentence that names the state directory."""
    ran = peruserd("deletions", *action, environment=environment)
    assert ran.returncode == 75
    assert str(tmp_path) in ran.stderr
    assert "start it" in ran.stderr


def test_a_socket_that_nobody_listens_on_is_no_daemon(environment: dict[str, str], tmp_path: Path) -> None:
    """A daemon that was killed leaves a socket, and no daemon."""
    serving = ControlSocket(tmp_path, lambda _order, _uid: iter(()))
    serving.start()
    assert serving._socket is not None
    listening, serving._socket = serving._socket, None
    # The thread that accepts keeps a socket open that is only closed.
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    ran = peruserd("deletions", "pause", environment=environment)
    assert ran.returncode == 75
    assert "no daemon runs here" in ran.stderr


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([Done()], 0),
        ([Refused("no majority")], 75),
        ([Refused("not you", again=False)], 1),
        ([], 75),
    ],
)
def test_how_it_ended_is_the_exit_code(
    environment: dict[str, str], tmp_path: Path, answers: list[Answer], code: int
) -> None:
    """A passing refusal is 75, any other is 1, and an end without an answer does not count as success."""
    serving = ControlSocket(tmp_path, lambda _order, _uid: iter(answers))
    serving.start()
    ran = peruserd("deletions", "pause", environment=environment)
    serving.stop()
    assert ran.returncode == code


def test_each_action_is_one_order(environment: dict[str, str], tmp_path: Path) -> None:
    """The daemon gets the names as they were typed."""
    orders: list[Order] = []

    def carry_out(order: Order, _uid: int) -> Iterator[Answer]:
        orders.append(order)
        yield Done()

    serving = ControlSocket(tmp_path, carry_out)
    serving.start()
    for action in (["pause"], ["pause", "a"], ["resume"], ["resume", "--only", "a", "b"], ["release", "é"]):
        assert peruserd("deletions", *action, environment=environment).returncode == 0
    serving.stop()
    assert orders == [
        PauseAll(),
        Say(Word.HOLD, ("a",)),
        ResumeAll(),
        ResumeOnly(("a", "b")),
        Say(Word.RELEASE, ("é",)),
    ]


def test_what_waits_is_listed_in_the_order_of_its_dates(cluster: SimClusterThread) -> None:
    """The list needs no daemon; it shows escaped names, orders, the breaker and overdue entries."""
    connect(cluster.urls[0]).session.request("PUT", "/other", params={"q": "1"}).expect(201)
    journal = DeletionJournal(Journal(session_to(cluster.urls[0]), "other"))
    late, soon = waiting(journal, "late\x1b[31m"), waiting(journal, "soon", kind=Kind.RETURN)
    now = time.time()
    journal.change(late.id, lambda _: Entry(late.document, late.database, late.suffix, late.revision, 0.0, now - 7_300))
    journal.note(waiting(journal, "gone").ended(Ending.DROPPED, now))
    journal.change(waiting(journal, "gone").id, lambda known: known and known.ended(Ending.DROPPED, now))
    journal.say(soon.id, lambda _: Saying(Word.HOLD))
    journal.set_pause(Pause(paused=True, why=PauseReason.BREAKER, at=now))
    environment = {"PERUSERD_COUCHDB_URL": cluster.urls[0], "PERUSERD_CLUSTER_DATABASE": "other"}
    lines = peruserd("deletions", "list", environment=environment).stdout.splitlines()
    assert "(breaker, " in lines[0]
    assert "1 wait, 1 of them overdue, the oldest by 2 h" in lines[0]
    assert lines[1].startswith("late\\x1b[31m  userdb-")
    assert lines[1].endswith("due 2 h ago")
    assert "came back" in lines[2]
    assert lines[2].endswith(", said: hold")
    assert len(lines) == 3
    every = json.loads(peruserd("deletions", "list", "--all", "--json", environment=environment).stdout)
    assert [each["user"] for each in every["deletions"]] == ["late\x1b[31m", "soon", "gone"]
    assert every["pause"]["why"] == "breaker"
    one = peruserd("deletions", "list", "soon", environment=environment).stdout.splitlines()
    assert len(one) == 2
    ran = peruserd("deletions", "list", "soon", "org.couchdb.user:soon", "--json", environment=environment)
    document = json.loads(ran.stdout)
    assert (ran.returncode, [each["user"] for each in document["deletions"]]) == (0, ["soon"])
    (unknown,) = document["unknown"]
    assert (unknown["user"], unknown["reason"]) == ("org.couchdb.user:soon", "nothing waits")
    assert unknown["hint"] in ran.stderr


def test_a_journal_that_is_not_there_yet_is_empty(cluster: SimClusterThread) -> None:
    """Before the first deletion there is nothing to list, which is no failure."""
    environment = {"PERUSERD_COUCHDB_URL": cluster.urls[0], "PERUSERD_CLUSTER_DATABASE": "never"}
    ran = peruserd("deletions", "list", environment=environment)
    assert (ran.returncode, ran.stdout) == (0, "nothing waits\n")


def test_a_proxy_that_finds_nothing_is_no_empty_journal(tmp_path: Path) -> None:
    """A proxy's 404 says nothing about waiting entries, so the command says that it cannot know."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        environment = {"PERUSERD_COUCHDB_URL": f"http://127.0.0.1:{proxy.server_port}"}
        ran = peruserd("deletions", "list", environment=environment)
        proxy.shutdown()
    assert (ran.returncode, ran.stdout) == (75, "")
    assert "404" in ran.stderr


def test_a_wrong_configuration_is_78(tmp_path: Path) -> None:
    """A command that cannot read its configuration says so."""
    ran = peruserd("deletions", "pause", "--config", str(tmp_path / "none.toml"))
    assert ran.returncode == 78
    assert peruserd("deletions", "burn").returncode == 2
    assert peruserd("deletions", "cancel").returncode == 2
