"""`peruserd audit --repair` without a daemon, or with one that ends."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.cli import audit
from peruserd.core.audit.diagnosis import Diagnosis
from peruserd.core.audit.findings import Finding, Remedy
from peruserd.core.common.names import database_name
from peruserd.core.processes.control import Answer, Done, LookAt, Order
from peruserd.couch.client import Client
from peruserd.couch.errors import UnreachableError
from peruserd.daemon.control import ControlSocket
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.audit_command import Command, served
from tests.couch.connecting import connect
from tests.listener.clocks import Clock


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of node 1."""
    return connect(cluster.urls[0])


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
