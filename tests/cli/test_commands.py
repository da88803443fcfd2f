"""The commands as a user runs them: output, and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from peruserd.cli import main
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.system.programs import forked_programs

pytestmark = pytest.mark.processes

COMMANDS = ["run", "demo", "simcluster", "check", "config", "name", "owner", "plan", "wait", "migrate"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster with a few users."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=2)) as running:
        running.seed_users(5, "served", provisioned_prefix="userdb-")
        running.seed_users(7, "waiting")
        yield running


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    """`--help` says what the command does, shows an example and the exit codes."""
    helped = peruserd(command, "--help", ends_at_once=True)
    assert helped.returncode == 0
    assert f"peruserd {command}" in helped.stdout.partition("Example:")[2]
    assert "78 configuration" in helped.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["name"],
        ["owner"],
        ["plan", "bob"],
        ["demo", "--users", "0"],
        ["demo", "--rate", "-1"],
        ["simcluster", "--port", "x"],
        ["simcluster", "--nodes", "9"],
        ["audit", "--threads", "100000000"],
        ["migrate", "--threads", "257"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    """An argument that cannot be understood is refused before anything is done."""
    assert peruserd(*arguments, ends_at_once=True).returncode == 2


def test_an_unknown_kind_of_finding_names_those_there_are() -> None:
    """The error lists the kinds, as the one for an unknown kind of failure does."""
    ran = peruserd("audit", "--ignore", "options", "foo")
    assert ran.returncode == 2
    assert "argument --ignore: 'foo' is no kind of finding; there are missing, " in ran.stderr


def test_names_are_encoded_and_decoded() -> None:
    """`name` and `name --decode` are each other's inverse, for any script."""
    users = ["alice", "José", "片", "a/b"]
    encoded = peruserd("name", *users)
    assert encoded.returncode == 0
    decoded = peruserd("name", "--decode", *encoded.stdout.split())
    assert decoded.stdout.splitlines() == users


def test_a_name_without_a_database_is_1_and_the_others_are_answered() -> None:
    """One bad name does not hide the rest."""
    answered = peruserd("name", "x" * 116, "bob")
    assert answered.returncode == 1
    assert answered.stdout == "userdb-626f62\n"
    assert "116 bytes" in answered.stderr
    assert peruserd("name", "--decode", "userdb-6").returncode == 1


def test_a_prefix_that_couchdb_refuses_is_2() -> None:
    """The prefix is checked before it is used."""
    assert peruserd("name", "--prefix", "UserDB-", "bob").returncode == 2


def test_the_default_configuration_is_valid_toml_and_accepted(tmp_path: Path) -> None:
    """The output of `config` can be used as it is."""
    printed = peruserd("config").stdout
    assert tomllib.loads(printed)["databases"]["prefix"] == "userdb-"
    (tmp_path / "peruserd.toml").write_text(printed)
    named = peruserd("name", "bob", "--config", str(tmp_path / "peruserd.toml"))
    assert (named.returncode, named.stdout) == (0, "userdb-626f62\n")


def test_names_in_json_hold_each_answer_and_each_error() -> None:
    """The list has all names in their order; bytes that JSON cannot hold are escaped."""
    answered = peruserd("name", "--json", "bob", "x" * 116, os.fsdecode(b"\xff"))
    assert answered.returncode == 1
    bob, long, odd = json.loads(answered.stdout)
    assert bob == {"user": "bob", "database": "userdb-626f62", "error": None}
    assert long["database"] is None
    assert "116 bytes" in long["error"]
    assert odd["user"] == r"\udcff"
    decoded = peruserd("name", "--json", "--decode", "userdb-626f62")
    assert json.loads(decoded.stdout) == [bob]


def test_a_decoded_name_cannot_steer_a_terminal() -> None:
    """A user chose the name; its control characters are printed as escapes, and whole in JSON."""
    database = "userdb-" + b"\x1b[2Jbob".hex()
    assert peruserd("name", "--decode", database).stdout == "\\x1b[2Jbob\n"
    assert json.loads(peruserd("name", "--decode", "--json", database).stdout)[0]["user"] == "\x1b[2Jbob"


def test_the_default_configuration_in_json_is_that_of_the_file() -> None:
    """Each key has the same default in both, and a description."""
    explained = json.loads(peruserd("config", "--json").stdout)
    written = tomllib.loads(peruserd("config").stdout)
    defaults = {
        table: {name: key["default"] for name, key in keys.items() if key["default"] is not None}
        for table, keys in explained.items()
    }
    assert defaults == written
    assert all(key["description"] for keys in explained.values() for key in keys.values())


def test_output_that_nobody_reads_is_no_traceback() -> None:
    """`peruserd config | head` ends quietly."""
    piped = subprocess.run(  # noqa: S602 - a pipe is what is tested
        f"{sys.executable} -m peruserd config | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert piped.stdout.startswith("# peruserd")
    assert piped.stderr == ""


def test_check_says_what_the_daemon_would_do_and_changes_nothing(config: str, cluster: SimClusterThread) -> None:
    """The output has version, node, users, databases and copies in words; no request writes, and nothing is on disk."""
    cluster.clear_requests()
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 0, checked.stderr
    assert "version 3." in checked.stdout
    assert "node1@127.0.0.1; 3 of 3 nodes are connected" in checked.stdout
    assert "12 user documents" in checked.stdout
    counted = re.findall(r"would follow:.*: (\d+) user documents?; ", checked.stdout)
    assert sum(map(int, counted)) == 12, "a design document is no user document"
    assert "5 user databases" in checked.stdout
    followed = [line.split()[2] for line in checked.stdout.splitlines() if line.startswith("would follow:")]
    # No other instance has a lease here, so this one would adopt what its node has no copy of.
    shards = requests.get(f"{cluster.urls[0]}/_users/_shards", timeout=10).json()["shards"]
    assert sorted(followed) == sorted(shards)
    written = {(method, kind) for _, method, kind in cluster.requests() if method not in ("GET", "HEAD")}
    assert written == {("POST", "session")}, "a login, and nothing else"
    assert not (Path(config).parent / "state").exists()
    assert "pass" not in checked.stdout + checked.stderr


@pytest.mark.parametrize(("mode", "is_said"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_check_says_that_everybody_can_read_the_password(
    config: str, tmp_path: Path, cluster: SimClusterThread, mode: int, *, is_said: bool
) -> None:
    """It is no obstacle, because some platforms give files no other rights."""
    file = tmp_path / "password"
    file.write_text("pass")
    file.chmod(mode)
    url = cluster.urls[0].replace("adm:pass@", "")
    account = {
        "PERUSERD_COUCHDB_URL": url,
        "PERUSERD_COUCHDB_USERNAME": "adm",
        "PERUSERD_COUCHDB_PASSWORD_FILE": str(file),
    }
    checked = peruserd("check", "--config", config, environment=account)
    assert checked.returncode == 0, checked.stderr
    assert (f"every account of this machine can read or write {file}: chmod 640" in checked.stdout) is is_said
    # The file is not there, and not needed.
    file.unlink()
    checked = peruserd("check", "--config", config, environment={**account, "PERUSERD_COUCHDB_PASSWORD": "pass"})
    assert checked.returncode == 0, checked.stderr


def test_check_says_what_an_account_without_a_user_document_costs(config: str, cluster: SimClusterThread) -> None:
    """The line says so, and it is no obstacle; with a document the line says that all is well."""
    without = peruserd("check", "--config", config)
    assert "adm has no user document" in without.stdout
    assert without.returncode == 0
    cluster.add_user("adm", "x")
    assert "adm has a user document" in peruserd("check", "--config", config).stdout


def test_check_without_the_authentication_database_is_1(config: str) -> None:
    """An obstacle to serving users is printed, and makes the exit code 1."""
    checked = peruserd("check", "--config", config, environment={"PERUSERD_COUCHDB_AUTH_DB": "elsewhere"})
    assert checked.returncode == 1
    assert "elsewhere does not exist" in checked.stdout


def test_check_in_json_says_the_same_and_what_stands_in_the_way(config: str) -> None:
    """Each line has its subject and its words, and those that make the exit code 1 are marked."""
    checked = peruserd("check", "--config", config)
    found = json.loads(peruserd("check", "--json", "--config", config).stdout)
    assert found["clear"] is True
    in_words = [line.partition(":")[2].strip() for line in checked.stdout.splitlines()]
    assert [line["message"] for line in found["lines"]] == in_words
    elsewhere = {"PERUSERD_COUCHDB_AUTH_DB": "elsewhere"}
    obstructed = peruserd("check", "--json", "--config", config, environment=elsewhere)
    assert obstructed.returncode == 1
    found = json.loads(obstructed.stdout)
    assert found["clear"] is False
    assert [line["about"] for line in found["lines"] if not line["clear"]] == ["users"]


@pytest.mark.parametrize("command", [["check"], ["owner", "bob"], ["plan"]])
def test_a_server_that_does_not_answer_is_75(config: str, command: list[str]) -> None:
    """No server answers: the code says to try again later."""
    answered = peruserd(*command, "--config", config, environment={"PERUSERD_COUCHDB_URL": "http://127.0.0.1:1"})
    assert answered.returncode == 75
    assert "http://127.0.0.1:1" in answered.stderr


@pytest.mark.parametrize("command", [["check"], ["owner", "bob"], ["plan"]])
def test_refused_credentials_are_75(config: str, command: list[str], cluster: SimClusterThread) -> None:
    """The password can change on the server; the words say what was refused, not what the password was."""
    cluster.clear_lockouts()
    answered = peruserd(*command, "--config", config, environment={"PERUSERD_COUCHDB_PASSWORD": "hunter2"})
    assert answered.returncode == 75
    assert answered.stderr == (
        "peruserd: CouchDB refuses the password of adm, which is from PERUSERD_COUCHDB_PASSWORD in the environment; "
        "put the right one there, and run this command again\n"
    )
    assert "hunter2" not in answered.stdout + answered.stderr


def test_commands_share_the_record_of_refusals(config: str, cluster: SimClusterThread) -> None:
    """With a state directory the commands stop before the server locks the account."""
    cluster.clear_lockouts()
    directory = Path(config).parent / "state"
    directory.mkdir()
    environment = {"PERUSERD_COUCHDB_PASSWORD": "hunter2"}
    said = [peruserd("check", "--config", config, environment=environment).stderr for _ in range(5)]
    assert ["refuses the password" in each for each in said] == [True] * 4 + [False], said
    assert "so none is sent for another" in said[-1]
    # The server has counted no further attempts, so the right password is let in.
    assert peruserd("check", "--config", config).returncode == 75
    assert requests.get(f"{cluster.urls[0]}/_membership", timeout=10).status_code == 200
    assert "hunter2" not in (directory / "refusals.json").read_text()


@pytest.mark.parametrize("command", [["check"], ["owner", "bob"], ["plan"], ["run"], ["name", "bob"]])
def test_a_mistaken_configuration_is_78_and_names_file_key_and_what_is_allowed(
    tmp_path: Path, command: list[str]
) -> None:
    """Every mistake is listed with its file and full key."""
    path = tmp_path / "bad.toml"
    path.write_text('[databases]\nq = 0\n[deletion]\npolicy = "burn"\n')
    answered = peruserd(*command, "--config", str(path), ends_at_once=True)
    assert answered.returncode == 78
    assert f"{path}: databases.q: found 0, allowed is a whole number from 1" in answered.stderr
    assert f"{path}: deletion.policy: found 'burn', allowed is one of 'revoke', 'keep', 'drop'" in answered.stderr


@pytest.mark.parametrize("command", [["check"], ["owner", "bob"], ["plan"], ["run"]])
def test_files_that_are_not_there_are_75_and_named(config: str, command: list[str]) -> None:
    """All of them are printed at once. With a mistake of the configuration the code is 78, and all is printed too."""
    missing = {f"PERUSERD_COUCHDB_{key}": f"/nonexistent/{key}" for key in ("CA_FILE", "CLIENT_CERT", "PASSWORD_FILE")}
    answered = peruserd(*command, "--config", config, environment=missing, ends_at_once=True)
    assert answered.returncode == 75
    another = missing | {"PERUSERD_COUCHDB_CA_FILE": "/dev"}
    mistaken = peruserd(*command, "--config", config, environment=another, ends_at_once=True)
    assert mistaken.returncode == 78
    for said in (answered.stderr, mistaken.stderr):
        for key in ("ca_file", "client_cert", "password_file"):
            assert f"couchdb.{key}: " in said


def test_a_command_that_asks_no_server_does_not_wait_for_imports_of_those_that_do() -> None:
    """They would take two thirds of its time."""
    code = "import sys, peruserd.cli.name; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "peruserd.cli.config_file" in loaded
    assert {"requests", "structlog", "multiprocess"}.isdisjoint(loaded)


def test_blank_variables_are_not_given(config: str) -> None:
    """An empty variable of every key without a default, and of the password, changes nothing."""
    keys = ("CA_FILE", "CLIENT_CERT", "CLIENT_KEY", "PASSWORD_FILE", "PASSWORD", "USERNAME")
    blank = {f"PERUSERD_COUCHDB_{key}": "" for key in keys} | {"PERUSERD_DATABASES_N": " "}
    checked = peruserd("check", "--config", config, environment=blank)
    assert checked.returncode == 0, checked.stderr


def test_the_demo_ends_well_and_says_so_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small demo: everybody served, a listener lost and back, one JSON object on standard output.

    Its programs are forks. Another test runs the demo as a person does, see `tests.demo.test_stay`.
    """
    options = ["--nodes", "2", "--q", "2", "--users", "40", "--rate", "40", "--seed", "1", "--once", "--json"]
    with forked_programs(tmp_path):
        code = main(["demo", *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    result = json.loads(said.out)
    assert (result["users"], result["provisioned"], result["secured"]) == (40, 40, 40)
    assert result["listener_restarts"] >= 1
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["wrong"] == []


def test_the_simulated_cluster_runs_until_it_is_stopped() -> None:
    """It prints its URLs, answers at each, and ends with 0 on SIGTERM."""
    command = [sys.executable, "-m", "peruserd", "simcluster", "--nodes", "2", "--port", "0", "--user", "boss:secret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = iter(running.stdout.readline, "ready\n")
        urls = [line.strip() for line in lines]
        try:
            assert len(urls) == 2
            for url in urls:
                assert requests.get(f"{url}/_membership", timeout=10).json()["all_nodes"]
        finally:
            running.send_signal(signal.SIGTERM)
    assert running.returncode == 0
