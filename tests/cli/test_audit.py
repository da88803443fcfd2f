"""`peruserd audit` without a daemon: its lists in words and as JSON, and its exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from peruserd.cli import audit, main, survey
from peruserd.core.audit.diagnosis import Diagnosis
from peruserd.core.audit.findings import Finding, Remedy
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.processes.control import Answer, Done, LookAt, Order
from peruserd.couch.client import Client
from peruserd.couch.errors import UnreachableError
from peruserd.daemon.control import ControlSocket
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.couch.connecting import connect
from tests.listener.clocks import Clock
from tests.listener.provisioner_harness import delete_user


class Command:
    """Runs `peruserd audit` against node 1, in this process, with the second look at once."""

    def __init__(self, cluster: SimClusterThread, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = cluster.urls[0]
        self._capsys = capsys

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Return its exit code and its output."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(survey, "_AGAIN_SECONDS", 0.0)
            patched.setattr(survey, "_PAUSE_SECONDS", 0.0)
            # Loggers would keep the first stream that they find, and this test's stream is closed at its end.
            configure = structlog.configure
            patched.setattr(
                structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False})
            )
            patched.setenv("PERUSERD_COUCHDB_URL", self._url)
            patched.setenv("PERUSERD_STATE_DIRECTORY", "/nonexistent/state")
            for name, value in more.items():
                patched.setenv(name, value)
            try:
                code = main(["audit", *arguments])
            finally:
                structlog.reset_defaults()
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def listed(self, *arguments: str) -> tuple[int, dict[str, list[str]], dict[str, Any]]:
        """Return the exit code, the findings by user, and the whole result as JSON."""
        code, said, error = self.run("--json", *arguments)
        assert said, error
        result: dict[str, Any] = json.loads(said)
        return code, {each["user"]: each["findings"] for each in result["left"]}, result


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """Undo the settings that a command makes for its process."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def command(cluster: SimClusterThread, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command."""
    return Command(cluster, capsys)


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of node 1."""
    return connect(cluster.urls[0])


def served(cluster: SimClusterThread, count: int) -> list[str]:
    """Sign users up with their databases, and return them."""
    return cluster.seed_users(count, provisioned_prefix="userdb-")


def test_where_nothing_differs_it_is_0(cluster: SimClusterThread, command: Command) -> None:
    """All users of all ranges are looked at, and nothing is written."""
    served(cluster, 120)
    code, said, _ = command.run()
    assert (code, said.splitlines()) == (0, [said.strip()])
    assert said.startswith("120 users in ")
    assert said.strip().endswith(", 0 differ")
    assert cluster.writes() == []


def test_what_differs_is_listed_with_what_would_be_done(
    cluster: SimClusterThread, client: Client, command: Command
) -> None:
    """A line for each user, a sum for each kind, and the advice; the exit code is 1."""
    missing, public, right = served(cluster, 3)
    client.delete_database(database_name("userdb-", missing))
    client.put_security(database_name("userdb-", public), {})
    client.create_database(database_name("userdb-", "nobody"), DatabasesConfig())
    code, said, _ = command.run()
    lines = said.splitlines()
    assert code == 1
    assert lines[0] == "nobody  userdb-6e6f626f6479  no_user: no document of this user is known, so it is left alone"
    assert lines[1] == f"{missing}  {database_name('userdb-', missing)}  missing: the database is made"
    assert lines[2].endswith("not_named, public: the security object is written to all copies")
    assert not any(line.startswith(right) for line in lines)
    assert [line.split() for line in lines[3:7]] == [
        ["missing", "1"],
        ["not_named", "1"],
        ["public", "1"],
        ["no_user", "1"],
    ]
    assert "4 users in" in lines[7]
    assert lines[8] == "`peruserd audit --repair` lets the running daemon repair 2 of them"


def test_users_and_kinds_can_be_chosen(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """`--user` looks only at these users, even if they do not exist; `--ignore` skips known findings."""
    missing, options = served(cluster, 2)
    client.delete_database(database_name("userdb-", missing))
    client.delete_database(database_name("userdb-", options))
    client.create_database(database_name("userdb-", options), DatabasesConfig(q=4))
    assert command.listed("--user", missing, "never")[:2] == (1, {missing: ["missing"]})
    code, found, result = command.listed("--user", "never")
    assert (code, found, result["unknown"][0]["user"]) == (1, {}, "never")
    assert command.listed("--user", options)[1] == {options: ["not_named", "options"]}
    code, found, result = command.listed("--ignore", "missing", "not_named")
    assert (code, found, result["findings"]) == (1, {options: ["options"]}, {"options": 1})
    assert command.listed("--ignore", "missing", "not_named", "options")[0] == 0


def test_a_name_that_can_have_no_database_is_said(command: Command) -> None:
    """A database that cannot exist is neither wrong nor right."""
    code, said, error = command.run("--user", "x" * 200)
    assert (code, said) == (1, "")
    assert "200 bytes" in error


def test_users_whom_any_copy_knows_are_found(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """One copy has lost them, and node 1 is asked; their databases are looked at, and the copy is named."""
    users = served(cluster, 4)
    cluster.forget_documents(1, "_users", [user_document_id(each) for each in users[:2]])
    client.delete_database(database_name("userdb-", users[0]))
    code, found, result = command.listed()
    assert (code, found) == (1, {users[0]: ["missing", "copy_behind"], users[1]: ["copy_behind"]})
    assert "node1@127.0.0.1" in result["left"][1]["words"]


@pytest.mark.parametrize("outcome", [403, 500])
def test_a_copy_that_is_closed_is_passed_over(
    cluster: SimClusterThread, client: Client, command: Command, outcome: int
) -> None:
    """A proxy blocks the copies of another node, and the other copies of its ranges show the same users."""
    users = served(cluster, 4)
    client.delete_database(database_name("userdb-", users[0]))
    cluster.fail(1, outcome, path_regex="node3.*_changes")
    assert command.listed()[:2] == (1, {users[0]: ["missing"]})


def test_deleted_users_are_looked_at(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """The feed shows a tombstone; its user must be named nowhere."""
    (user,) = served(cluster, 1)
    path = f"/_users/{user_document_id(user)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200, 202)
    assert command.listed()[:2] == (1, {user: ["still_named"]})
    assert command.run(PERUSERD_DELETION_POLICY="keep")[0] == 0


def test_what_cannot_be_seen_is_75_and_not_listed_without_end(cluster: SimClusterThread, command: Command) -> None:
    """An absent node is no difference, but it is not known either that nothing differs."""
    served(cluster, 30)
    cluster.stop_node(3)
    code, said, _ = command.run()
    assert code == 75
    assert "… and 20 users more that could not be seen whole" in said
    assert "0 differ, 30 could not be seen whole" in said
    code, found, _ = command.listed()
    assert (code, len(found)) == (75, 30)


def test_a_dry_run_says_who_would_be_named_and_needs_no_daemon(
    cluster: SimClusterThread, client: Client, command: Command
) -> None:
    """Repairable users would be sent to the daemon; a real repair without a daemon is 75 at once."""
    missing, _ = served(cluster, 2)
    client.delete_database(database_name("userdb-", missing))
    code, _, result = command.listed("--repair", "--dry-run")
    assert (code, result["sent"]) == (1, [missing])
    assert "1 user would be sent to the daemon" in command.run("--repair", "--dry-run")[1]
    cluster.clear_requests()
    code, said, error = command.run("--repair")
    assert (code, said) == (75, "")
    assert "no daemon runs" in error
    assert cluster.requests() == {}


def test_names_cannot_steer_the_terminal(cluster: SimClusterThread, command: Command) -> None:
    """Users choose the names that an operator sees."""
    cluster.add_user("evil\x1b[31m", "pass")
    code, said, _ = command.run()
    assert code == 1
    assert said.startswith("evil\\x1b[31m  userdb-")


def test_a_server_without_shards_is_audited(client: Client, cluster: SimClusterThread, command: Command) -> None:
    """One copy of everything, by the database's own feed."""
    missing, _ = served(cluster, 2)
    client.delete_database(database_name("userdb-", missing))
    code, said, _ = command.run("--json", PERUSERD_COUCHDB_FEED="database")
    assert (code, [each["user"] for each in json.loads(said)["left"]]) == (1, [missing])


def test_templates_that_are_out_of_date_are_listed_and_no_repair_brings_them(
    cluster: SimClusterThread, client: Client, command: Command, tmp_path: Path
) -> None:
    """The exit code is 1, the words name the rollout, and `--repair` has nobody to name to the daemon."""
    right, missing = served(cluster, 2)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "logo.json").write_text('{"_id": "logo", "of": "{user}"}', encoding="utf-8")
    client.session.request("PUT", f"/{database_name('userdb-', right)}/logo", body={"of": right}).expect(201)
    cluster.clear_requests()
    assert command.listed()[0] == 0
    configured = {"PERUSERD_TEMPLATES_DIRECTORY": str(tmp_path)}
    code, said, _ = command.run(**configured)
    assert code == 1
    words = "template: `peruserd templates rollout` brings logo (missing)"
    assert said.splitlines()[0] == f"{missing}  {database_name('userdb-', missing)}  {words}"
    assert "--repair" not in said
    code, said, _ = command.run("--json", "--repair", "--dry-run", **configured)
    result = json.loads(said)
    assert (code, result["findings"], result["sent"]) == (1, {"template": 1}, [])
    assert result["left"][0]["remedy"] == "operator"
    assert command.run("--ignore", "template", **configured)[0] == 0
    assert cluster.writes() == []


def test_a_server_that_is_away_is_75_and_a_wrong_configuration_78(tmp_path: Path) -> None:
    """The codes are those of all commands."""
    assert peruserd("audit", environment={"PERUSERD_COUCHDB_URL": "http://127.0.0.1:9"}).returncode == 75
    assert peruserd("audit", "--config", str(tmp_path / "none.toml")).returncode == 78
    assert peruserd("audit", "--repair", "--config", str(tmp_path / "none.toml")).returncode == 78
    assert peruserd("audit", "--ignore", "nonsense").returncode == 2


def test_a_repair_that_does_not_get_better_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repaired users leave the list; the others stay, also those who need another remedy."""

    class Surveyed:
        """Shows one user as repaired at the second look."""

        looks = 0

        def at_once(self, document_ids: Iterator[str]) -> list[Diagnosis]:
            """Return the diagnoses."""
            self.looks += 1
            ids = list(document_ids)
            return [stuck] + [slow for each in ids if each.endswith("slow") and self.looks < 2]

    clock = Clock()
    monkeypatch.setattr(audit, "time", clock)
    stuck, slow = (Diagnosis(each, (Finding.PUBLIC,), Remedy.LOOK) for each in ("stuck", "slow"))
    other = Diagnosis("other", (Finding.OPTIONS,), Remedy.OPERATOR)
    left = {each.user: each for each in (stuck, slow, other)}
    audit._watch(Surveyed(), left)  # type: ignore[arg-type]
    assert left == {"other": other, "stuck": stuck}


@pytest.fixture
def orders(tmp_path: Path) -> Iterator[list[Order]]:
    """A daemon that accepts the first order and then ends; the list has its orders."""
    taken: list[Order] = []

    def carry_out(order: Order, _uid: int) -> Iterator[Answer]:
        taken.append(order)
        return iter([Done()] if len(taken) == 1 else [])

    serving = ControlSocket(tmp_path, carry_out)
    serving.start()
    yield taken
    serving.stop()


def test_a_repair_whose_daemon_ends_midway_says_what_was_found(
    cluster: SimClusterThread, client: Client, command: Command, orders: list[Order], tmp_path: Path
) -> None:
    """The findings may have taken an hour, so they are printed, with the reason and a code for another try."""
    missing, right = served(cluster, 2)
    client.delete_database(database_name("userdb-", missing))
    code, printed, said = command.run("--repair", "--json", PERUSERD_STATE_DIRECTORY=str(tmp_path))
    answer = json.loads(printed)
    assert (code, answer["exit_code"], answer["error"]) == (75, 75, "no_answer")
    assert answer["reason"] in said
    assert [each["user"] for each in answer["left"]] == [missing]
    assert (answer["users"], answer["differing"], answer["sent"]) == (2, 1, [])
    assert orders == [LookAt(()), LookAt((missing,))]
    orders.clear()
    code, printed, said = command.run("--repair", PERUSERD_STATE_DIRECTORY=str(tmp_path))
    assert (code, printed.count(f"{missing}  userdb-")) == (75, 2)
    assert right not in printed
    assert "the daemon ended before it took the users" in said


@pytest.mark.parametrize(
    ("failure", "code", "word"),
    [(UnreachableError("away"), 75, "unreachable"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_a_repair_that_is_cut_short_says_what_was_found(
    failure: BaseException, code: int, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server goes away during the repair, or the operator presses Ctrl-C."""

    def failing(_survey: object, left: dict[str, Diagnosis]) -> None:
        left.pop("mended")
        raise failure

    monkeypatch.setattr(audit, "_send", lambda _directory, users, sent: sent.extend(users))
    monkeypatch.setattr(audit, "_watch", failing)
    found = [Diagnosis(each, (Finding.PUBLIC,), Remedy.LOOK) for each in ("mended", "open")]
    users = [each.user for each in found]
    left, sent, trouble = audit._repaired(tmp_path, None, found, users)  # type: ignore[arg-type]
    assert (left, sent) == (found[1:], users)
    assert trouble is not None
    assert (trouble.code, trouble.kind) == (code, word)


def test_a_name_that_nobody_has_is_not_taken_for_right(client: Client, command: Command) -> None:
    """The exit code is 1, and it is said whether a database of that name is there."""
    client.create_database(database_name("userdb-", "left"), DatabasesConfig())
    code, said, _ = command.run("--user", "nobody", "left", "org.couchdb.user:nobody", "nobody")
    lines = said.splitlines()
    assert code == 1
    assert lines[0] == f"nobody: there is no such user; the database {database_name('userdb-', 'nobody')} is not there"
    assert lines[1] == f"left: there is no such user; the database {database_name('userdb-', 'left')} is there"
    assert lines[2].endswith("a name is given without 'org.couchdb.user:', which begins the id of its document")
    assert lines[-1].startswith("3 users in ")
    assert lines[-1].endswith(", 3 not there")
    code, found, result = command.listed("--user", "nobody", "left")
    assert (code, found) == (1, {"left": ["no_user"]})
    assert [(each["user"], each["database_exists"]) for each in result["unknown"]] == [
        ("nobody", False),
        ("left", True),
    ]
    _, _, result = command.listed("--user", "org.couchdb.user:nobody")
    assert result["unknown"][0]["hint"].startswith("a name is given without ")


def test_a_user_who_is_deleted_as_it_should_be_is_right(
    cluster: SimClusterThread, client: Client, command: Command
) -> None:
    """Whether access is gone can be asked of a deleted user; the answer says that the user was deleted."""
    (user,) = served(cluster, 1)
    delete_user(client, user)
    client.delete_database(database_name("userdb-", user))
    code, said, _ = command.run("--user", user)
    assert (code, said.splitlines()[0]) == (
        0,
        f"{user}: the user was deleted; the database {database_name('userdb-', user)} is not there",
    )
    assert command.listed("--user", user)[2]["deleted"][0]["user"] == user


def test_a_name_is_not_called_unknown_while_a_node_that_may_know_it_is_away(
    cluster: SimClusterThread, command: Command
) -> None:
    """A later try can help, so the code is 75."""
    cluster.stop_node(3)
    code, said, _ = command.run("--user", "nobody")
    assert code == 75
    assert said.startswith("nobody: there is no such user as far as can be seen without node3@127.0.0.1; ")


def test_names_that_can_have_no_database_are_all_said(command: Command) -> None:
    """Also as JSON, and also those whose bytes are no Unicode."""
    code, said, error = command.run("--json", "--user", "", "\udcff")
    assert (code, json.loads(said)["error"]) == (1, "unservable_name")
    assert error.splitlines() == [
        'peruserd: "": the user name is empty',
        "peruserd: \\udcff: the user name is not valid Unicode",
    ]


def test_it_says_what_it_does_where_no_bar_can(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """A second look takes seconds, so a log says that there is one."""
    (user,) = served(cluster, 1)
    client.delete_database(database_name("userdb-", user))
    assert command.run()[2].splitlines() == [
        "peruserd: looking at all users, and at each copy of their databases",
        "peruserd: looking at 1 user once more, in 0 s",
    ]
