"""`peruserd templates` as an operator uses it, on a simulated cluster, with its exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.choices import Grant
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.users.security import Access, first
from peruserd.couch.client import Client
from peruserd.couch.session import quoted
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.couch.connecting import connect, make_lease_database

pytestmark = pytest.mark.processes

USERS = ("ann", "bob", "kim")
REFUSES = {"validate_doc_update": "function (doc) { throw({forbidden: 'no'}); }"}


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """One node, three users with databases as they were made without templates, and one who has none yet."""
    with SimClusterThread(ClusterOptions(nodes=1, n=1)) as running:
        client = connect(running.urls[0])
        make_lease_database(client)
        for user in USERS:
            running.add_user(user, "x")
            client.create_database(database_name("userdb-", user), DatabasesConfig())
            client.put_security(database_name("userdb-", user), first(user))
        running.add_user("new", "x")
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of the node."""
    return connect(cluster.urls[0])


class Templates:
    """A directory of templates, and commands that use it."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        (directory / "documents").mkdir()
        self.environment = {
            "PERUSERD_COUCHDB_URL": url,
            "PERUSERD_TEMPLATES_DIRECTORY": str(directory),
            "PERUSERD_STATE_DIRECTORY": str(directory / "..state"),
        }

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write one file."""
        (self.directory / name).write_text(json.dumps(content), encoding="utf-8")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command; return its exit code and what it printed."""
        ran = peruserd("templates", *arguments, environment=self.environment)
        return ran.returncode, ran.stdout, ran.stderr

    def answer(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run the command with --json; return its exit code and the answer."""
        code, printed, said = self.run(*arguments, "--json")
        assert printed, said
        return code, json.loads(printed)


@pytest.fixture
def templates(cluster: SimClusterThread, tmp_path: Path) -> Templates:
    """Two documents."""
    made = Templates(tmp_path, cluster.urls[0])
    made.write("documents/profile.json", {"_id": "profile", "of": "{user}", "version": 1})
    made.write("documents/main.json", {"_id": "_design/main", "views": {}})
    return made


def body(client: Client, user: str, document_id: str) -> dict[str, Any] | None:
    """Return a document of a user's, without its id and revision; None where there is none."""
    answer = client.session.request("GET", f"/{database_name('userdb-', user)}/{quoted(document_id)}")
    if answer.status == 404:
        return None
    found = answer.expect(200).decode(dict[str, Any])
    return {key: value for key, value in found.items() if key not in ("_id", "_rev")}


def put(client: Client, user: str, document_id: str, content: dict[str, Any]) -> None:
    """Overwrite a document of a user."""
    path = f"/{database_name('userdb-', user)}/{quoted(document_id)}"
    found = client.session.request("GET", path)
    rev = {"_rev": found.decode(dict[str, Any])["_rev"]} if found.status == 200 else {}
    client.session.request("PUT", path, body={**content, **rev}).expect(201, 200)


def test_templates_are_counted_rolled_out_and_counted_again(client: Client, templates: Templates) -> None:
    """A first version is rolled out, then a second one beside a document that a user changed and one deleted."""
    code, status = templates.answer("status")
    assert (code, status["users"], status["without_database"], status["due"]) == (1, 4, 1, 3)
    assert status["documents"]["profile"]["missing"] == 3
    code, printed, _ = templates.run("rollout", "--dry-run")
    assert (code, printed.count("would change: _design/main (missing), profile (missing)")) == (0, 3)
    assert body(client, "ann", "profile") is None

    code, answer = templates.answer("rollout")
    assert (code, answer["done"], answer["without_database"]) == (0, True, 1)
    assert sorted(each["user"] for each in answer["changes"]) == list(USERS)
    assert body(client, "ann", "profile") == {"of": "ann", "version": 1}
    code, printed, said = templates.run("status")
    assert (code, said) == (0, "peruserd: looking at 4 users, at most 50 a second\n")
    assert printed.endswith("every database that is there is up to date\n")

    templates.write("documents/profile.json", {"_id": "profile", "of": "{user}", "version": 2})
    put(client, "bob", "profile", {"of": "bob", "mine": True})
    put(client, "kim", "profile", {"_deleted": True})
    code, status = templates.answer("status")
    assert (code, status["due"]) == (1, 1)
    counted = {name: count for name, count in status["documents"]["profile"].items() if count}
    assert counted == {"out of date": 1, "changed by its user": 1, "deleted by its user": 1}

    code, printed, said = templates.run("rollout")
    assert code == 0
    assert "careful: design documents" in said
    assert "ann: changed: profile (out of date)" in printed
    assert "bob: kept: profile (changed by its user)" in printed
    assert "kim: kept: profile (deleted by its user)" in printed
    assert body(client, "ann", "profile") == {"of": "ann", "version": 2}
    assert body(client, "bob", "profile") == {"of": "bob", "mine": True}
    assert body(client, "kim", "profile") is None
    assert templates.run("status")[0] == 0

    code, answer = templates.answer("rollout", "--overwrite")
    assert (code, sorted(each["user"] for each in answer["changes"]), answer["kept"]) == (0, ["bob", "kim"], [])
    assert body(client, "kim", "profile") == {"of": "kim", "version": 2}


def test_a_rollout_stops_at_the_first_failures(client: Client, templates: Templates) -> None:
    """The output names users and reasons; on demand more failures are allowed, and the others are served then."""
    put(client, "bob", "_design/own", REFUSES)
    code, printed, said = templates.run("rollout", "--json")
    answer = json.loads(printed)
    assert (code, answer["done"]) == (1, False)
    assert [(each["user"], "template_refused" in each["why"]) for each in answer["failures"]] == [("bob", True)]
    assert "bob: template_refused: " in said
    assert "stopped after" in said
    code, answer = templates.answer("rollout", "--max-failures", "1")
    assert (code, answer["done"], len(answer["failures"])) == (1, False, 1)
    assert [body(client, user, "profile") for user in ("ann", "kim")] == [
        {"of": "ann", "version": 1},
        {"of": "kim", "version": 1},
    ]


def test_a_request_that_the_server_rejects_is_no_reason_to_wait(
    cluster: SimClusterThread, client: Client, templates: Templates
) -> None:
    """A repetition would end in the same way, so the code is 1. An error about one user names that user."""
    cluster.fail(1, 400, path_regex=f"{database_name('userdb-', 'bob')}/_bulk_docs")
    code, answer = templates.answer("rollout", "--max-failures", "1")
    assert (code, [each["user"] for each in answer["failures"]]) == (1, ["bob"])
    assert answer["failures"][0]["why"].startswith("rejected: ")
    assert body(client, "kim", "profile") is not None
    cluster.fail(1, 400, path_regex="_users/_changes")
    code, printed, said = templates.run("rollout", "--json")
    answer = json.loads(printed)
    assert (code, answer["exit_code"], answer["error"], answer["done"]) == (1, 1, "rejected", False)
    assert "run it again once that is mended" in said


def test_nobody_is_called_up_to_date_who_has_no_database(
    cluster: SimClusterThread, client: Client, templates: Templates
) -> None:
    """A rollout has nothing to do then, and daemons have."""
    for user in USERS:
        client.delete_database(database_name("userdb-", user))
    code, printed, _ = templates.run("status")
    assert code == 0
    assert "up to date" not in printed.splitlines()[-1]
    assert printed.splitlines()[-1].startswith("nobody has a database yet")
    client.create_database(database_name("userdb-", "ann"), DatabasesConfig())
    cluster.fail(1, 500, path_regex=database_name("userdb-", "ann"))
    code, printed, _ = templates.run("status")
    assert (code, printed.splitlines()[-1]) == (1, "nothing could be read; 1 database could not be")


def test_rights_and_roles_reach_databases_that_are_there(client: Client, templates: Templates) -> None:
    """A changed grant needs no template, and what others added stays."""
    shared = first("bob") | {"note": 1}
    shared["members"]["names"].append("friend")
    client.put_security(database_name("userdb-", "bob"), shared)
    templates.environment["PERUSERD_SECURITY_GRANT"] = "member"
    for file in (templates.directory / "documents").iterdir():
        file.unlink()
    templates.write("security.json", {"admins": {"roles": ["support"]}})
    templates.write("options.json", {"_revs_limit": 9})
    code, status = templates.answer("status")
    assert (code, status["rights_due"], status["options_due"]) == (1, 3, 3)
    code, answer = templates.answer("rollout", "--rate", "1000")
    assert (code, [each["rights"] for each in answer["changes"]]) == (0, [True] * 3)
    access = Access(Grant.MEMBER, admin_roles=("support",))
    assert client.security(database_name("userdb-", "ann")) == first("ann", access)
    found = client.security(database_name("userdb-", "bob"))
    assert found["members"]["names"] == ["bob", "friend"]
    assert found["admins"] == {"names": [], "roles": ["_admin", "support"]}
    assert found["note"] == 1
    assert client.session.request("GET", f"/{database_name('userdb-', 'ann')}/_revs_limit").decode(int) == 9
    assert templates.run("status")[0] == 0


def test_deleted_users_and_databases_of_nobody_are_left_alone(client: Client, templates: Templates) -> None:
    """A rollout goes through the users who are there."""
    path = f"/_users/{user_document_id('bob')}"
    rev = client.session.request("GET", path).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200)
    client.create_database("userdb-7a7a", DatabasesConfig())
    code, answer = templates.answer("rollout")
    assert (code, sorted(each["user"] for each in answer["changes"])) == (0, ["ann", "kim"])
    assert body(client, "bob", "profile") is None


def test_a_record_that_cannot_be_kept_is_75(client: Client, templates: Templates) -> None:
    """A later rollout must recognize these documents, so nothing begins without the record."""
    client.delete_database("peruserd")
    code, _, said = templates.run("rollout")
    assert code == 75
    assert "the database peruserd cannot be used" in said
    assert body(client, "ann", "profile") is None
    assert templates.run("rollout", "--dry-run")[0] == 0


def test_mistakes_are_said_before_anything_is_done(templates: Templates) -> None:
    """An invalid template is 78 for the commands that use templates, and for no others; wrong options are 2."""
    templates.write("documents/bad.json", {"_id": "_design/x", "filters": {"f": "'{user}'"}})
    for command in (["templates", "status"], ["templates", "rollout"], ["check"]):
        ran = peruserd(*command, environment=templates.environment)
        assert ran.returncode == 78
        assert "documents/bad.json: it is a design document" in ran.stderr
    listed = peruserd("deletions", "list", environment=templates.environment)
    assert listed.returncode == 0
    for rate in ("0", "1e-300", "nan"):
        assert templates.run("rollout", "--rate", rate)[0] == 2
    assert templates.run("rollout", "--max-failures", "-1")[0] == 2
    assert templates.run("undo")[0] == 2


def test_a_server_that_is_away_is_75(cluster: SimClusterThread, templates: Templates) -> None:
    """Nothing was done, and it is worth another try."""
    cluster.stop_node(1)
    assert templates.run("status")[0] == 75
    assert templates.run("rollout")[0] == 75


def test_check_says_what_is_put_into_databases(templates: Templates) -> None:
    """With a warning where users could change design documents."""
    templates.write("security.json", {"members": {"roles": ["audit"]}})
    said = peruserd("check", environment=templates.environment).stdout
    assert "new databases get 2 documents: _design/main, profile" in said
    assert "people with the role audit are members of each database" in said
    assert "careful: design documents" in said
    member = peruserd("check", environment={**templates.environment, "PERUSERD_SECURITY_GRANT": "member"}).stdout
    assert "careful" not in member
