"""The admin's password is changed on the server, refused and corrected: the acts and the output of an instance."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from peruserd.core.processes.password_gate import MAX_REFUSALS
from peruserd.couch.refusals import FILE_NAME
from peruserd.simcluster import ClusterOptions
from tests.system.daemon import Daemon
from tests.system.target import Target, open_target
from tests.waiting import eventually, eventually_each

Make = Callable[..., Daemon]

NEW = "a-new-s3cret"


@pytest.fixture
def target() -> Iterator[Target]:
    """A cluster on which one instance also reads copies of other nodes; afterwards it has the old password again."""
    with open_target(ClusterOptions(nodes=3, q=4, n=1)) as target:
        before = target.password
        yield target
        change_password(target, before)


def change_password(target: Target, password: str) -> None:
    """Change the admin's password on every node, one after the other: each makes a salt of its own."""
    for node in range(1, len(target.urls) + 1):
        path = f"/_node/_local/_config/admins/{target.username}"
        answer = requests.put(
            target.urls[node - 1] + path,
            data=json.dumps(password),
            auth=(target.username, target.password),
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
    # CouchDB takes no password at all until it has derived the hash of the new one.
    eventually_each(target.urls, lambda url: _is_taken(url, target.username, password), "the new password is taken")
    target.password = password
    target._http.auth = (target.username, password)


def _is_taken(url: str, username: str, password: str) -> bool:
    if requests.get(f"{url}/_session", auth=(username, password), timeout=60).status_code == 200:
        return True
    time.sleep(0.3)
    return False


def assert_not_locked(target: Target) -> None:
    """Fail if the account is locked for this machine's address at any node."""
    for node in range(1, len(target.urls) + 1):
        answer = target.request("GET", "/_membership", node=node)
        assert answer.status_code == 200, answer.text


def instance(make_daemon: Make, target: Target, **more: object) -> Daemon:
    """Make an instance beside the first node."""
    return make_daemon(url=target.urls[0], username=target.username, password=target.password, **more)


class _SigningUp:
    """Users who sign up all the time, from another thread, with a session; refused requests are not counted."""

    def __init__(self, target: Target) -> None:
        self.done: list[str] = []
        self._target = target
        self._mine = target.another()
        self._mine._http.auth = None
        self._password = ""
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> list[str]:
        self._thread.start()
        return self.done

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        self._mine.close()

    def _run(self) -> None:
        while not self._leaving.wait(0.05):
            if self._password != self._target.password:
                self._password = self._target.password
                self._mine._http.cookies.clear()
                account = {"name": self._target.username, "password": self._password}
                self._mine.request("POST", "/_session", json=account)
            names = self._mine.new_names(8)
            try:
                self._mine.sign_up(names)
            except AssertionError:
                # The session belongs to the old password; the next session is made when the new one is known.
                continue
            self.done.extend(names)


def refusals(daemon: Daemon) -> int:
    """Return how often the server refused the password, as the instance counts it."""
    return int(daemon.metrics().total("peruserd_password_refusals_total"))


def test_a_password_that_changes_under_load_is_recovered_from_by_itself(make_daemon: Make, target: Target) -> None:
    """Nothing is locked, the instance says what is wrong, and goes on as soon as its file has the new one."""
    daemon = instance(make_daemon, target).start()
    daemon.wait_until_ready()
    listeners = daemon.listeners()
    with _SigningUp(target) as names:
        eventually(lambda: len(names) > 100, "people sign up")
        change_password(target, NEW)
        eventually(lambda: "refuses the password" in daemon.get("/readyz").text, "the refusal is said")
        assert daemon.get("/healthz").status_code == 200
        assert daemon.metrics().total("peruserd_authenticated") == 0
        assert_not_locked(target)
        daemon.password_file.write_text(f"{NEW}\n")
        begun = time.monotonic()
        eventually(lambda: daemon.metrics().total("peruserd_authenticated") == 1, "it is let in again")
        print(f"let in again {time.monotonic() - begun:.2f} s after the file was changed")
        eventually(lambda: not target.unserved(names[:100]), "those who signed up before are served")
    daemon.wait_until_ready()
    eventually(lambda: not target.unserved(names), "all are served")
    assert_not_locked(target)
    assert refusals(daemon) <= 3
    assert daemon.metrics().total("peruserd_quarantined_users") == 0
    assert daemon.listeners() == listeners
    assert daemon.stop() == os.EX_OK


def test_an_instance_that_is_refused_at_its_start_waits(make_daemon: Make, target: Target) -> None:
    """The instance goes on, gives the reason, and is ready once the password is right; a restart changes nothing."""
    daemon = instance(make_daemon, target)
    daemon.password_file.write_text("wrong\n")
    for _ in range(5):
        daemon.start()
        ready = daemon.get("/readyz")
        assert ready.status_code == 503
        assert "password" in ready.text
        assert daemon.get("/healthz").status_code == 200
        assert daemon.stop() == os.EX_OK
    assert_not_locked(target)
    assert len(json.loads((daemon.state / FILE_NAME).read_text())["refusals"]) == MAX_REFUSALS


def test_a_password_is_read_again_on_sighup(make_daemon: Make, target: Target) -> None:
    """The log has the finding, and the present session goes on."""
    daemon = instance(make_daemon, target).start()
    daemon.wait_until_ready()
    daemon.password_file.write_text(f"{NEW}\n")
    daemon.hang_up()
    eventually(lambda: daemon.line("the password was read again"), "it was read again")
    assert (daemon.line("the password was read again") or {})["found"] == "another one"
    change_password(target, NEW)
    names = target.new_names(5)
    target.sign_up(names)
    eventually(lambda: not target.unserved(names), "they are served")
    # CouchDB takes no password while it derives the hash of the new one, and may be asked just then.
    assert refusals(daemon) <= 1


@pytest.mark.anew
def test_no_process_shows_the_password(make_daemon: Make, target: Target) -> None:
    """Not in its environment, its command line, the state directory or the log. The first one had to be given it."""
    daemon = make_daemon(
        url=target.urls[0],
        config={"couchdb": {"username": target.username}},
        environment={"PERUSERD_COUCHDB_PASSWORD": target.password},
    ).start()
    daemon.wait_until_ready()
    names = target.new_names(5)
    target.sign_up(names)
    eventually(lambda: not target.unserved(names), "they are served")
    processes = daemon.processes()
    assert len(processes) >= 3 + len(daemon.listeners()) - 1
    for process in processes:
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        if process.pid != daemon.pid:
            shown += Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"PASSWORD" not in shown
    for file in filter(Path.is_file, daemon.state.iterdir()):
        assert b"AuthSession" not in file.read_bytes()
    assert "AuthSession" not in daemon.log_file.read_text()
    assert daemon.stop() == os.EX_OK


def test_an_unprivileged_instance_knows_what_its_listeners_take(
    make_daemon: Make, target: Target, need_tool: Callable[[str], str]
) -> None:
    """Its processes cannot read each other, so each measures itself."""
    drop = [need_tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    daemon = instance(make_daemon, target, under=drop).start()
    daemon.wait_until_ready()
    metrics = daemon.metrics()
    listeners = len(daemon.listeners())
    for name in ("resident_memory_bytes", "open_fds", "threads"):
        labels = metrics.labels(f"peruserd_listener_{name}")
        assert len(labels) == listeners
        assert metrics.total(f"peruserd_listener_{name}") >= 4 * listeners
