"""Each way in which a start ends or waits, as the table of docs/running.md has it."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from types import MappingProxyType
from typing import NamedTuple

import psutil
import pytest
import requests

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.system.daemon import Daemon, Tables
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "running.md"
WAITS = "waits"


class Place(NamedTuple):
    """Where a start is tried: a cluster of its own, an empty folder, and a stack of things to end afterwards."""

    cluster: SimClusterThread
    folder: Path
    stack: ExitStack


class Setting(NamedTuple):
    """What a start is given. `words` are in its last log line, or for one that waits in the answer of /readyz."""

    words: str
    config: Tables = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})
    under: tuple[str, ...] = ()
    url: str | None = None
    password: bool = True


def no_toml(_place: Place) -> Setting:
    """The configuration has a key without a value."""
    return Setting("not valid TOML", {"log": {"format = 'json'\nlevel": "debug"}, "state": {"=": ""}})


def unknown_key(_place: Place) -> Setting:
    """A key is misspelt, and a value is out of its range."""
    return Setting("databases.qq: unknown key", {"databases": {"qq": 1, "q": 0}})


def odd_url(_place: Place) -> Setting:
    """The host has a character that no name may have. Only the library that makes requests knows that."""
    return Setting("couchdb.url: no request can be made", url="http://adm:pass@☃.example:5984")


def no_password(_place: Place) -> Setting:
    """Nothing can bring a password later."""
    return Setting("couchdb.username: 'adm' has no password", {"couchdb": {"username": "adm"}}, password=False)


def through_a_file(place: Place) -> Setting:
    """The state directory would be below a file."""
    file = place.folder / "file"
    file.touch()
    return Setting("state.directory: cannot write to", {"state": {"directory": str(file / "state")}})


def mistaken_template(place: Place) -> Setting:
    """A template is no JSON."""
    (place.folder / "documents").mkdir()
    (place.folder / "documents" / "a.json").write_text("{")
    return Setting("documents/a.json", {"templates": {"directory": str(place.folder)}})


def impossible_address(_place: Place) -> Setting:
    """A link-local address without its interface can be bound nowhere, with or without IPv6."""
    return Setting("http.listen: cannot listen on [fe80::1]:0", {"http": {"listen": "[fe80::1]:0"}})


class NoShards(BaseHTTPRequestHandler):
    """A server that says at `/` what it is, and has no pages of nodes."""

    def do_GET(self) -> None:
        known = self.path == "/"
        body = b'{"express-pouchdb":"Welcome!","version":"4.2.0"}' if known else b'{"error":"not_found"}'
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def no_shards(place: Place) -> Setting:
    """The server says what it is, and has no shards."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), NoShards)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for end in (thread.join, server.server_close, server.shutdown):
        place.stack.callback(end)
    url = f"http://127.0.0.1:{server.server_port}"
    return Setting("couchdb.feed: ", {"couchdb": {"feed": "shard"}}, url=url, password=False)


def foreign_database(place: Place) -> Setting:
    """The database of the leases was there before, with a document of somebody else."""
    for path, body in (("peruserd", None), ("peruserd/recipe", {"salt": 1})):
        assert requests.put(f"{place.cluster.urls[0]}/{path}", json=body, timeout=10).status_code == 201
    return Setting("cluster.database: ")


def missing_file(place: Place) -> Setting:
    """The password and the authority are still to come."""
    missing = {key: str(place.folder / key) for key in ("password_file", "ca_file")}
    return Setting("couchdb.password_file: cannot read", {"couchdb": {"username": "adm", **missing}}, password=False)


def missing_credential(place: Place) -> Setting:
    """Systemd has made the directory of credentials, and no password is in it."""
    environment = {"CREDENTIALS_DIRECTORY": str(place.folder)}
    return Setting("'adm' has no password", {"couchdb": {"username": "adm"}}, environment, password=False)


def missing_templates(place: Place) -> Setting:
    """The volume with the templates is not mounted yet."""
    directory = str(place.folder / "templates")
    return Setting(f"{directory}: cannot be read", {"templates": {"directory": directory}})


def no_room(_place: Place) -> Setting:
    """No file may grow beyond a few blocks, so not even an empty state can be kept."""
    return Setting("state.directory: cannot write to", under=("prlimit", "--fsize=32768"))


def no_disk(place: Place) -> Setting:
    """The state is on a disk that is mounted later."""
    state = place.folder / "state"
    state.symlink_to(place.folder / "disk")
    return Setting("is a link to", _in(state))


def second_instance(place: Place) -> Setting:
    """Another process holds the lock of the state directory."""
    state = place.folder / "state"
    other = place.stack.enter_context(Daemon(place.folder / "other", url=place.cluster.urls[0], config=_in(state)))
    other.start()
    return Setting("is in use by another peruserd", _in(state))


def port_in_use(place: Place) -> Setting:
    """Another program listens on the port of the HTTP page."""
    other = place.stack.enter_context(socket())
    other.bind(("127.0.0.1", 0))
    other.listen()
    listen = f"127.0.0.1:{other.getsockname()[1]}"
    return Setting(f"cannot listen on {listen}: Address already in use", {"http": {"listen": listen}})


def no_control_socket(place: Place) -> Setting:
    """Something else has the name of the control socket."""
    state = place.folder / "state"
    (state / "control.sock").mkdir(parents=True)
    return Setting("this machine does not allow the start now", _in(state))


def no_audit_file(place: Place) -> Setting:
    """The directory of the audit's file is not made yet."""
    file = str(place.folder / "logs" / "audit.log")
    return Setting("log.audit_file: cannot open", {"log": {"audit_file": file}})


def silent_server(_place: Place) -> Setting:
    """Nobody listens on the server's port."""
    return Setting("cannot reach http://127.0.0.1:1", url="http://adm:pass@127.0.0.1:1")


def refusing_server(_place: Place) -> Setting:
    """The server does not take the password."""
    return Setting("refuses the password", environment={"PERUSERD_COUCHDB_PASSWORD": "hunter2"})


def no_users(_place: Place) -> Setting:
    """There is no authentication database of this name."""
    return Setting("the authentication database does not exist", {"couchdb": {"auth_db": "_others"}})


CASES: dict[str, tuple[int | str, tuple[Callable[[Place], Setting], ...]]] = {
    "the configuration file is missing, or is not TOML": (78, (no_toml,)),
    "a key is unknown, or its value is not allowed": (78, (unknown_key,)),
    "no request can be made to `couchdb.url`": (78, (odd_url,)),
    "an account has no password, or a password no account": (78, (no_password,)),
    "a path leads through a file, or names a directory in place of a file": (78, (through_a_file,)),
    "a template has a mistake": (78, (mistaken_template,)),
    "`http.listen` needs a privilege, or a kind of address that this machine lacks": (78, (impossible_address,)),
    "`couchdb.feed` is `shard`, and the server has no shards": (78, (no_shards,)),
    "`cluster.database` is somebody else's database": (78, (foreign_database,)),
    "a file with the password, or for TLS, is missing or unusable": (75, (missing_file,)),
    "systemd has handed over no password": (75, (missing_credential,)),
    "a template cannot be read": (75, (missing_templates,)),
    "the state directory cannot be written": (75, (no_room, no_control_socket)),
    "the state directory is a link to a disk that is not mounted": (75, (no_disk,)),
    "another instance uses the state directory": (75, (second_instance,)),
    "the port of `http.listen` is in use, or its address is not up": (75, (port_in_use,)),
    "the file of `log.audit_file` cannot be opened": (75, (no_audit_file,)),
    "CouchDB does not answer": (WAITS, (silent_server,)),
    "CouchDB refuses the account": (WAITS, (refusing_server,)),
    "the authentication database does not exist": (WAITS, (no_users,)),
}
EACH = [pytest.param(code, make, id=make.__name__) for code, makers in CASES.values() for make in makers]


def _in(state: Path) -> Tables:
    return {"state": {"directory": str(state)}}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Run a cluster, and end everything that a case has started."""
    folder = tmp_path / "place"
    folder.mkdir()
    with SimClusterThread(ClusterOptions(nodes=1, q=1, n=1)) as cluster, ExitStack() as stack:
        yield Place(cluster, folder, stack)


@pytest.mark.parametrize(("code", "make"), EACH)
def test_a_start_ends_with_the_code_of_its_row_or_waits(
    place: Place,
    make_daemon: Callable[..., Daemon],
    need_tool: Callable[[str], str],
    code: int | str,
    make: Callable[[Place], Setting],
) -> None:
    """The words say what is wrong, and there is no traceback. What waits goes on by itself."""
    setting = make(place)
    for tool in setting.under[:1]:
        need_tool(tool)
    url = setting.url or (place.cluster.urls[0] if setting.password else place.cluster.urls[0].replace("adm:pass@", ""))
    daemon = make_daemon(url=url, config=setting.config, environment=setting.environment, under=setting.under)
    if code == WAITS:
        daemon.start()
        eventually(lambda: setting.words in daemon.get("/readyz").text, f"/readyz says {setting.words!r}")
        assert daemon.get("/healthz").status_code == 200
        return
    daemon.launch()
    assert daemon.wait() == code
    said = daemon.log_file.read_text()
    assert setting.words in said
    assert "Traceback" not in said
    assert not _asked(place.cluster) or make in (no_shards, foreign_database, second_instance)


def _asked(cluster: SimClusterThread) -> bool:
    """Say whether any request came: what is wrong with this machine is found before."""
    return bool(cluster.requests())


def test_the_table_has_each_of_these_and_no_others() -> None:
    """The page says what is found, the code, and what to do."""
    lines = PAGE.read_text().splitlines()
    begin = lines.index("| at the start | exit code | what to do |")
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[begin + 2 : lines.index("", begin)]
    ]
    assert {what: code for what, code, _ in rows} == {what: str(code) for what, (code, _) in CASES.items()}
    assert all(advice for _, _, advice in rows)


def test_variables_of_proxies_change_nothing(place: Place, make_daemon: Callable[..., Daemon]) -> None:
    """Requests go to the node itself, whatever the environment says about proxies, and also if that is no address."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    odd = {each: "http://[::1" for name in names for each in (name, name.lower())} | {"NO_PROXY": "\t"}
    daemon = make_daemon(url=place.cluster.urls[0], environment=odd)
    daemon.start().wait_until_ready()


def test_all_processes_may_open_as_many_files_as_the_hard_limit_allows(
    place: Place, make_daemon: Callable[..., Daemon], need_tool: Callable[[str], str]
) -> None:
    """The soft limit is raised at the start, and a limit that does not suffice is said."""
    daemon = make_daemon(url=place.cluster.urls[0], under=(need_tool("prlimit"), "--nofile=64:190"))
    daemon.start().wait_until_ready()
    for pid in (daemon.pid, *daemon.listeners()):
        assert psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE) == (190, 190)
    warning = daemon.line("limit of file descriptors is too low")
    assert warning is not None
    assert (warning["limit"], warning["needed"]) == (190, 196)


def test_a_start_succeeds_once_the_port_is_free(place: Place, make_daemon: Callable[..., Daemon]) -> None:
    """Another try is all it takes, as a service manager makes it after 75."""
    setting = port_in_use(place)
    daemon = make_daemon(url=place.cluster.urls[0], config=setting.config)
    daemon.launch()
    assert daemon.wait() == os.EX_TEMPFAIL
    place.stack.close()
    daemon.start()
    assert daemon.http == f"http://{setting.config['http']['listen']}"
