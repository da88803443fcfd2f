"""`peruserd quarantine` against the required parts of a daemon: socket, orders, and listeners that answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from peruserd.core.cluster.views import Copy
from peruserd.core.common.names import user_document_id
from peruserd.core.ownership.ranges import Range
from peruserd.core.processes.control import Order
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import State
from peruserd.core.users.inquiries import Inquiry, InquiryPage, KeptUser, QuarantineAction
from peruserd.core.users.quarantine import KINDS
from peruserd.daemon.control import ControlSocket
from peruserd.daemon.quarantine import QuarantineOrders
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.questions import Questions
from tests.cli.running import peruserd

LOWER, UPPER = (Copy("_users", Range(*each), "n1", ".1") for each in ((0, 0x7FFFFFFF), (0x80000000, 0xFFFFFFFF)))


def kept(user: str, kind: str = "conflict", **more: object) -> KeptUser:
    """A user in quarantine for some minutes."""
    passing = kind not in ("held", "rejected")
    entry = KeptUser(
        document=user_document_id(user),
        deleted=False,
        kind=kind,
        error="the server's words",
        advice="retry" if passing else "ask_operator",
        failures=3,
        since=1_700_000_000.0,
        passing=passing,
        next_try_in=90.0,
    )
    return msgspec.structs.replace(entry, **more)


class Listeners:
    """A fleet of two listeners with users in quarantine, and their answers."""

    def __init__(self) -> None:
        self.users = {
            LOWER: [kept("ann"), kept("bob", "held")],
            UPPER: [kept("cid", "copies_away", waits_for=("n2",))],
        }
        self.state = {LOWER: State.RUNNING, UPPER: State.RUNNING}
        self.silent: set[Copy] = set()
        self.asked: list[Inquiry] = []
        self.questions = Questions(self._answer, patience_seconds=0.05)

    def status(self) -> FleetStatus:
        """Return the listeners."""
        listeners = tuple(
            ListenerStatus(copy, state, None, restarts=0, pid=1, report=None, caught_up=True)
            for copy, state in self.state.items()
        )
        return FleetStatus(listeners, Counters(), {}, unreadable=())

    def _answer(self, copy: Copy, inquiry: Inquiry) -> None:
        self.asked.append(inquiry)
        if copy not in self.silent:
            users = [
                each
                for each in self.users[copy]
                if (not inquiry.document_ids or each.document in inquiry.document_ids)
                and inquiry.kind in (None, each.kind)
            ]
            self.questions.answered(copy, InquiryPage(inquiry.number, tuple(users)))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment that names the state directory."""
    return {"PERUSERD_STATE_DIRECTORY": str(tmp_path)}


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    """Listeners behind a control socket."""
    made = Listeners()
    quarantine = QuarantineOrders(made, made.questions)  # type: ignore[arg-type]

    def carry_out(order: Order, uid: int) -> object:
        return quarantine.carry_out(order, uid)  # type: ignore[arg-type]

    serving = ControlSocket(tmp_path, carry_out)  # type: ignore[arg-type]
    serving.start()
    yield made
    serving.stop()


@pytest.mark.usefixtures("listeners")
def test_a_list_keeps_permanent_and_passing_apart(environment: dict[str, str]) -> None:
    """Users who need somebody's help come first."""
    ran = peruserd("quarantine", "list", environment=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == "1: somebody has to change something for these users"
    assert lines[1].startswith("  bob  held  user, 3 failures in ")
    assert lines[2] == "2: these users are tried again and again, and time may help"
    assert [line.split()[0] for line in lines[3:]] == ["ann", "cid"]
    assert lines[3].endswith("tried again in 90 s")


@pytest.mark.usefixtures("listeners")
def test_a_user_is_shown_with_all_that_is_known(environment: dict[str, str]) -> None:
    """The details are the kind in words, the server's error, the failures and their dates, and the awaited nodes."""
    ran = peruserd("quarantine", "show", "cid", environment=environment)
    assert ran.returncode == 0
    assert f"copies_away: {KINDS['copies_away']}" in ran.stdout
    for words in ("the server's words", "3, the first one 2023-11-14 22:13:20Z", "n2", "80000000-ffffffff@n1"):
        assert words in ran.stdout


def test_json_has_every_field(listeners: Listeners, environment: dict[str, str]) -> None:
    """The JSON has the users in the same order as the lines for people."""
    ran = peruserd("quarantine", "list", "--json", environment=environment)
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["done"]) == (0, True)
    assert [each["user"] for each in found["users"]] == ["bob", "ann", "cid"]
    as_it_is = json.loads(msgspec.json.encode(listeners.users[LOWER][1]))
    assert found["users"][0] | as_it_is == found["users"][0]
    assert found["users"][0]["listener"] == "00000000-7fffffff@n1"


def test_users_can_be_tried_now_and_forgotten(listeners: Listeners, environment: dict[str, str]) -> None:
    """Users are chosen by name, by kind or all; each one is printed."""
    ran = peruserd("quarantine", "retry", "ann", "cid", environment=environment)
    assert (ran.returncode, ran.stdout.splitlines()[:2]) == (0, ["ann: tried now", "cid: tried now"])
    assert "`peruserd quarantine list` shows" in ran.stdout.splitlines()[2]
    assert {each.action for each in listeners.asked} == {QuarantineAction.RETRY}
    assert listeners.asked[0].document_ids == (user_document_id("ann"), user_document_id("cid"))
    ran = peruserd("quarantine", "forget", "--kind", "held", environment=environment)
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (0, "bob: forgotten")
    assert "`peruserd audit --repair --user USER` looks at one once more" in ran.stdout
    assert (listeners.asked[-1].action, listeners.asked[-1].kind) == (QuarantineAction.FORGET, "held")
    ran = peruserd("quarantine", "retry", "--all", environment=environment)
    assert (ran.returncode, ran.stdout.count(": tried now\n")) == (0, 3)


@pytest.mark.usefixtures("listeners")
def test_a_user_who_is_not_there_is_said(environment: dict[str, str]) -> None:
    """The command exits 1 with a sentence; the other users are done all the same."""
    ran = peruserd("quarantine", "retry", "ann", "dan", environment=environment)
    assert ran.returncode == 1
    assert ran.stdout.startswith("ann: tried now\n")
    assert ran.stderr.startswith("peruserd: dan: not in quarantine here")
    ran = peruserd("quarantine", "list", "dan", "--json", environment=environment)
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["done"], answer["users"]) == (1, False, [])
    assert [each["user"] for each in answer["unknown"]] == ["dan"]


@pytest.mark.usefixtures("listeners")
def test_odd_names_are_said_and_the_others_are_done(environment: dict[str, str]) -> None:
    """An empty name, invalid Unicode, or an id in place of a name does not delay the others."""
    ran = peruserd("quarantine", "retry", "", "\udcff", "org.couchdb.user:ann", "ann", environment=environment)
    assert ran.returncode == 1
    assert ran.stdout.startswith("ann: tried now\n")
    lines = sorted(ran.stderr.splitlines())
    assert [line.split(": ")[1] for line in lines] == ['""', "\\udcff", "org.couchdb.user:ann"]
    assert "not valid Unicode" in lines[1]
    assert lines[2].endswith("a name is given without 'org.couchdb.user:', which begins the id of its document")


@pytest.mark.usefixtures("listeners")
def test_json_has_the_hint_that_the_words_have(environment: dict[str, str]) -> None:
    """A script that gave an id in place of a name gets the same hint as a person."""
    ran = peruserd("quarantine", "show", "org.couchdb.user:ann", "dan", "--json", environment=environment)
    hints = {each["user"]: each.get("hint") for each in json.loads(ran.stdout)["unknown"]}
    assert hints.keys() == {"org.couchdb.user:ann", "dan"}
    assert "without 'org.couchdb.user:'" in hints["org.couchdb.user:ann"]
    assert hints["dan"] is None


@pytest.mark.usefixtures("listeners")
def test_nobody_is_an_answer(environment: dict[str, str]) -> None:
    """A kind without users is no failure."""
    for action in ("list", "show", "retry", "forget"):
        ran = peruserd("quarantine", action, "--kind", "restless", environment=environment)
        assert (ran.returncode, ran.stdout) == (0, "nobody is in quarantine here for the reason restless\n")


def test_where_nobody_was_named_nobody_was_asked_for(listeners: Listeners, environment: dict[str, str]) -> None:
    """The sentence is about the whole quarantine."""
    listeners.users = {LOWER: [], UPPER: []}
    ran = peruserd("quarantine", "list", environment=environment)
    assert (ran.returncode, ran.stdout) == (0, "nobody is in quarantine here\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("forget",),
        ("retry", "--all", "ann"),
        ("list", "--kind", "nonsense"),
        ("list", "--all"),
        ("mend",),
        (),
    ],
)
def test_what_is_not_said_clearly_is_refused(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """An order without a name tries and forgets nothing; the error for an unknown kind lists the kinds."""
    ran = peruserd("quarantine", *arguments, environment=environment)
    assert ran.returncode == 2
    if "nonsense" in arguments:
        assert all(kind in ran.stderr for kind in KINDS)


def test_without_a_daemon_it_is_to_be_tried_later(environment: dict[str, str]) -> None:
    """Only the daemon has the quarantine, so the sentence says what to do."""
    ran = peruserd("quarantine", "list", environment=environment)
    assert ran.returncode == 75
    assert "no daemon runs here" in ran.stderr
    ran = peruserd("quarantine", "list", "--json", environment=environment)
    assert json.loads(ran.stdout)["error"] == "no_daemon"


@pytest.mark.parametrize("how", ["silent", "ended"])
def test_a_part_of_the_quarantine_is_not_taken_for_all(
    listeners: Listeners, environment: dict[str, str], how: str
) -> None:
    """The received users are shown, and the exit code says that some are missing."""
    if how == "silent":
        listeners.silent.add(UPPER)
    else:
        listeners.state[UPPER] = State.BACKOFF
    ran = peruserd("quarantine", "list", "--json", environment=environment)
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["done"], len(found["users"])) == (75, False, 2)
    assert "not all of the quarantine was seen: the listener of 80000000-ffffffff@n1 does not" in ran.stderr


def test_a_configuration_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """The exit code is that of every command."""
    file = tmp_path / "peruserd.toml"
    file.write_text("nonsense", encoding="utf-8")
    assert peruserd("quarantine", "list", "--config", str(file), environment={}).returncode == 78


def test_many_users_who_wait_for_the_same_copies_are_one_line(
    listeners: Listeners, environment: dict[str, str]
) -> None:
    """The operator sees one finding; `show` and `--json` have every user."""
    listeners.users[LOWER] += [kept(f"u{each:03}", "copies_away", waits_for=("n2", "n3")) for each in range(50)]
    lines = peruserd("quarantine", "list", environment=environment).stdout.splitlines()
    assert lines[2].startswith("52: these users are tried again")
    assert lines[3].startswith(
        "  50 users  copies_away  wait for copies on n2, n3, which cannot be read, the first for "
    )
    assert [line.split()[0] for line in lines[4:]] == ["ann", "cid"]
    assert "  u049" in peruserd("quarantine", "show", environment=environment).stdout.splitlines()
