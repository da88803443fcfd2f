"""Eight ways to break an instance. An operator finds the reason in the status line, on the page or by an alert.

Nobody needs to read code or an old log for that. Where a restart would not help, `/healthz` stays `ok`. What can be
mended is mended outside of the instance, which is well again by itself. On the simulated cluster, or, where no node
needs to be stopped, on the real one that PERUSERD_TEST_CLUSTER names.
"""

import html
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from peruserd.core.processes.status import Status, decode_status
from peruserd.simcluster import ClusterOptions
from tests.sabotage import VARIABLE, Constants, Saboteur, orders
from tests.system.alerts import Alerts
from tests.system.daemon import Daemon, Tables
from tests.system.notified import Systemd
from tests.system.target import Target, open_simulated
from tests.system.test_password import change_password
from tests.system.test_threads import HURRIED, IMPATIENT
from tests.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()

WELL = "listening to 2 of 2 ranges"

# For users this is a minute.
OFTEN = (("peruserd.supervisor.peruser_watch", "_ASK_SECONDS", 0.3),)


class Operator:
    """What an operator sees of one instance, without its log."""

    def __init__(self, daemon: Daemon, systemd: Systemd, alerts: Alerts) -> None:
        self.daemon = daemon
        self.systemd = systemd
        self._alerts = alerts

    def reads(self, *words: str) -> str:
        """Wait until the status line has all these words; return it."""

        def found() -> str | None:
            said = self.systemd.status
            return said if all(each in said for each in words) else None

        return eventually(found, f"the status line has {words}")

    @property
    def ready(self) -> str:
        """What `/readyz` says."""
        return self.daemon.get("/readyz").text.strip()

    @property
    def status(self) -> Status:
        """What `/status.json` says, which can be a second old."""
        return decode_status(self.daemon.get("/status.json").content)

    def finds(self, shows: Callable[[Status], object], *words: str) -> None:
        """Wait until `/status.json` shows a cause, and the page has these words without any script."""
        eventually(lambda: shows(self.status), "/status.json shows the cause")
        page = html.unescape(self.daemon.get("/", accept="text/html").text)
        _, begins, plain = page.partition("<noscript>")
        plain, ends, _ = plain.partition("</noscript>")
        assert (begins, ends) == ("<noscript>", "</noscript>")
        assert [each for each in words if each not in plain] == []

    def is_alerted(self, name: str, *, ageing: bool = False) -> bool:
        """Say whether an alert fires if all stays as it is; with `ageing` nothing happens again that has an age.

        The document says what to do about it.
        """
        assert f"alerts.md#{name.lower()}" in PAGE
        return self._alerts.fires(name, self.daemon.get("/metrics").text, ageing=ageing)

    def is_alerted_of_no_answer(self, name: str) -> bool:
        """Say whether an alert fires if the instance does not answer."""
        return self._alerts.fires(name, None)

    def sees_that_all_is_well(self) -> None:
        """Wait until the instance says so, and nothing else."""
        eventually(
            lambda: (self.systemd.status, self.ready, self.status.ready.why) == (WELL, "ok", "ok"),
            "the status line, /readyz and /status.json are those of a well instance",
        )
        assert self.daemon.get("/healthz").text == "ok\n"


Watch = Callable[..., Operator]


@pytest.fixture
def watch(
    make_daemon: Callable[..., Daemon], systemd: Systemd, need_tool: Callable[[str], str], tmp_path: Path
) -> Watch:
    """Make an instance without starting it, and an operator who looks at it."""
    alerts = Alerts(need_tool("promtool"), tmp_path / "alerts")

    def made(
        cluster: Target,
        *,
        config: Tables | None = None,
        constants: Constants = (),
        under: tuple[str, ...] = (),
    ) -> Operator:
        # The loop goes round three times as often as the watchdog must hear of it.
        environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1500000"}
        if constants:
            environment[VARIABLE] = orders(tmp_path / "sabotage", constants)
        daemon = make_daemon(
            url=cluster.urls[0],
            username=cluster.username,
            password=cluster.password,
            config=config,
            environment=environment,
            under=under,
        )
        return Operator(daemon, systemd, alerts)

    return made


@pytest.fixture
def one_password(one_node: Target) -> Iterator[None]:
    """Let the cluster have its password again after the test."""
    before = one_node.password
    yield
    if one_node.password != before:
        change_password(one_node, before)


@pytest.fixture
def stoppable() -> Iterator[Target]:
    """Give a simulated cluster of one node."""
    with open_simulated(ClusterOptions(nodes=1, n=1, q=2)) as opened:
        yield opened


@pytest.fixture
def nodes() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, n=3, q=2)) as opened:
        yield opened


def test_a_wrong_password(watch: Watch, one_node: Target) -> None:
    """The reason has the account, and the file to correct. No restart is needed then."""
    operator = watch(one_node)
    daemon = operator.daemon
    daemon.password_file.write_text("wrong\n")
    daemon.start()
    said = operator.reads(
        "not ready", "refuses the password of adm", str(daemon.password_file), "put the right one there"
    )
    assert operator.ready.split(" CouchDB is asked again")[0] in said
    operator.finds(
        lambda status: str(daemon.password_file) in (status.authentication.trouble or ""), "refuses the password"
    )
    assert operator.is_alerted("PeruserdPasswordRefused")
    assert daemon.get("/healthz").text == "ok\n"
    daemon.password_file.write_text(f"{one_node.password}\n")
    operator.sees_that_all_is_well()
    one_node.serve(1)
    assert not operator.is_alerted("PeruserdPasswordRefused")


@pytest.mark.usefixtures("one_password")
def test_a_password_that_was_changed(watch: Watch, one_node: Target) -> None:
    """The words are those of a wrong one, after the instance was well. The listeners live through it."""
    operator = watch(one_node)
    daemon = operator.daemon.start()
    operator.sees_that_all_is_well()
    listeners = daemon.listeners()
    assert not operator.is_alerted("PeruserdPasswordRefused")
    change_password(one_node, "another")
    operator.reads("not ready", "refuses the password of adm", str(daemon.password_file), "put the right one there")
    operator.finds(lambda status: not status.authentication.let_in, "refuses the password of adm")
    assert "refuses the password of adm" in operator.ready
    assert operator.is_alerted("PeruserdPasswordRefused")
    assert daemon.get("/healthz").text == "ok\n"
    daemon.password_file.write_text("another\n")
    operator.sees_that_all_is_well()
    assert daemon.listeners() == listeners


def test_a_server_that_is_down(watch: Watch, stoppable: Target) -> None:
    """The reason has the address that does not answer. Nothing is restarted, and who signs up later is served."""
    assert stoppable.sim is not None
    operator = watch(stoppable, config={"cluster": {"poll_interval": 0.2}})
    daemon = operator.daemon.start()
    operator.sees_that_all_is_well()
    listeners = daemon.listeners()
    assert not operator.is_alerted("PeruserdCouchDBNotSeen")
    stoppable.sim.stop_node(1)
    address = str(daemon.config["couchdb"]["url"])
    operator.reads("not ready", "waiting for CouchDB", "cannot reach", address)
    assert "waiting for CouchDB" in operator.ready
    operator.finds(lambda status: address in status.ready.why, "waiting for CouchDB", address)
    intervals = 5 * float(str(daemon.config["cluster"]["poll_interval"]))
    eventually(lambda: (daemon.gauge("peruserd_reading_age_seconds") or 0.0) > intervals, "nothing is read any more")
    assert operator.is_alerted("PeruserdCouchDBNotSeen", ageing=True)
    assert daemon.get("/healthz").text == "ok\n"
    stoppable.sim.start_node(1)
    operator.sees_that_all_is_well()
    stoppable.serve(1)
    assert daemon.listeners() == listeners
    assert not operator.is_alerted("PeruserdCouchDBNotSeen")


def test_nodes_that_are_lost(watch: Watch, nodes: Target) -> None:
    """The reason has their names. Users are served while a majority is there, and wait until it is back."""
    assert nodes.sim is not None
    lost = nodes.node_names()[1:]
    operator = watch(nodes)
    daemon = operator.daemon.start()
    operator.sees_that_all_is_well()
    assert not operator.is_alerted("PeruserdNodeAway")
    nodes.sim.stop_node(3)
    operator.reads(WELL, f"not connected: {lost[1]}")
    (name,) = nodes.new_names(1)
    nodes.sign_up([name])
    # The copy at the lost node does not count.
    eventually(lambda: name in str(nodes.security(name)), "the user is served")
    operator.finds(lambda status: status.away == (lost[1],), f"Nodes not connected</th><td>{lost[1]}<")
    assert operator.is_alerted("PeruserdNodeAway")
    nodes.sim.stop_node(2)
    waiting = nodes.new_names(1)
    nodes.sign_up(waiting)
    operator.reads("not ready: on hold, because the cluster serves nobody", "no majority", *lost)
    assert "no majority" in operator.ready
    assert operator.is_alerted("PeruserdOnHold")
    assert operator.is_alerted("PeruserdCutOff")
    assert daemon.get("/healthz").text == "ok\n"
    for node in (2, 3):
        nodes.sim.start_node(node)
    operator.sees_that_all_is_well()
    eventually(lambda: not nodes.unserved(waiting), "who waited is served")
    assert not operator.is_alerted("PeruserdNodeAway")


class Disk(Protocol):
    """A disk with the state of an instance."""

    def fill(self) -> None: ...
    def free(self) -> None: ...


class SmallDisk:
    """A file system of 80 MiB. It belongs to the processes of the instance alone, and ends with them."""

    UNDER = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=80m peruserd "$0" && exec "$@"')

    def __init__(self, daemon: Daemon) -> None:
        self._file = Path(f"/proc/{daemon.pid}/root{daemon.state}/filler")

    @classmethod
    def can_be_made(cls, folder: Path) -> bool:
        """Say whether this account may do that, and has the programs."""
        if shutil.which(cls.UNDER[0]) is None:
            return False
        return subprocess.run([*cls.UNDER, folder, "true"], capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Write until nothing more can be written."""
        with self._file.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self) -> None:
        """Make room."""
        self._file.unlink()


class LimitedFiles:
    """The kernel lets no file of the instance grow, and answers each write as it does for a full disk."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def fill(self) -> None:
        """Let no file grow."""
        self._limit(1)

    def free(self) -> None:
        """Let files grow."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        for process in self._daemon.processes():
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk(watch: Watch, one_node: Target, tmp_path: Path) -> None:
    """The reason has the directory. The instance goes on by itself once there is room."""
    state = tmp_path / "daemon-1" / "state"
    state.mkdir(parents=True)
    is_real = SmallDisk.can_be_made(state)
    operator = watch(one_node, under=(*SmallDisk.UNDER, str(state)) if is_real else ())
    daemon = operator.daemon.start()
    operator.sees_that_all_is_well()
    assert not operator.is_alerted("PeruserdStateNotWritable")
    disk: Disk = SmallDisk(daemon) if is_real else LimitedFiles(daemon)
    listeners = daemon.listeners()
    disk.fill()
    names = one_node.new_names(20)
    one_node.sign_up(names)
    operator.reads("not ready: on hold: state cannot be written", str(state))
    assert "state cannot be written" in operator.ready
    operator.finds(
        lambda status: "state" in {each.hold_kind for each in status.listeners}, "state cannot be written", str(state)
    )
    assert operator.is_alerted("PeruserdStateNotWritable")
    assert daemon.get("/healthz").text == "ok\n"
    disk.free()
    operator.sees_that_all_is_well()
    eventually(lambda: not one_node.unserved(names), "all who waited are served")
    assert daemon.listeners() == listeners
    assert not operator.is_alerted("PeruserdStateNotWritable")


def test_a_bad_configuration(watch: Watch, one_node: Target) -> None:
    """The reason has the key, at a start and at a reload. Only at a start does the instance end."""
    operator = watch(one_node, config={"databases": {"qq": 1}})
    daemon = operator.daemon
    daemon.launch()
    assert daemon.wait() == 78
    assert operator.systemd.status.startswith("cannot start: ")
    assert "databases.qq: unknown key" in operator.systemd.status
    last = daemon.log_file.read_text().splitlines()[-1]
    assert "databases.qq: unknown key" in last
    assert operator.is_alerted_of_no_answer("PeruserdDown")

    daemon.write_configuration(databases={"qq": None})
    daemon.start()
    operator.sees_that_all_is_well()
    assert not operator.is_alerted("PeruserdDown")
    assert not operator.is_alerted("PeruserdReloadRefused")

    daemon.write_configuration(provisioning={"max_in_flight": 0})
    daemon.hang_up()
    operator.reads(f"{WELL}; configuration refused", "provisioning.max_in_flight")
    assert operator.is_alerted("PeruserdReloadRefused")
    operator.finds(lambda status: "max_in_flight" in (status.refused or ""), "The last reload was refused")
    assert (operator.ready, daemon.get("/healthz").text) == ("ok", "ok\n")
    one_node.serve(1)
    daemon.write_configuration(provisioning={"max_in_flight": 4})
    daemon.hang_up()
    operator.sees_that_all_is_well()
    assert not operator.is_alerted("PeruserdReloadRefused")


def test_couch_peruser_that_is_on(watch: Watch, one_node: Target) -> None:
    """Users are served all the same, so the instance is ready."""
    operator = watch(one_node, constants=OFTEN)
    daemon = operator.daemon.start()
    operator.sees_that_all_is_well()
    assert not operator.is_alerted("PeruserdCouchPeruserOn")
    one_node.set_peruser(on=True)
    operator.reads(f"{WELL}; couch_peruser is on at this node")
    operator.finds(lambda status: status.couch_peruser, "couch_peruser</th><td>is on at this node")
    assert operator.is_alerted("PeruserdCouchPeruserOn")
    assert (operator.ready, daemon.get("/healthz").text) == ("ok", "ok\n")
    one_node.serve(1)
    one_node.set_peruser(on=False)
    operator.sees_that_all_is_well()
    assert not operator.is_alerted("PeruserdCouchPeruserOn")


def test_a_thread_that_dies(watch: Watch, one_node: Target, tmp_path: Path) -> None:
    """It is started again, and named meanwhile."""
    operator = watch(one_node, constants=HURRIED)
    daemon = operator.daemon.start()
    operator.sees_that_all_is_well()
    assert not operator.is_alerted("PeruserdThreadFails")
    saboteur = Saboteur(tmp_path / "sabotage")

    # After four failures the next try is seconds away, so that there is time to see them.
    def is_found() -> bool:
        if daemon.metrics().total("peruserd_thread_failures_in_a_row", thread="cluster-watch") < 4:
            saboteur.let_fail("cluster-watch")
        is_said = "the thread cluster-watch fails" in operator.systemd.status
        return is_said and operator.status.failing == ("cluster-watch",) and operator.is_alerted("PeruserdThreadFails")

    eventually(is_found, "the status line, /status.json and an alert name the thread")
    assert daemon.get("/healthz").text == "ok\n"
    operator.sees_that_all_is_well()


def test_a_thread_that_hangs(watch: Watch, one_node: Target, tmp_path: Path) -> None:
    """It ends the instance, which then starts anew."""
    operator = watch(one_node, constants=IMPATIENT)
    daemon = operator.daemon.start()
    operator.sees_that_all_is_well()
    Saboteur(tmp_path / "sabotage").let_hang("cluster-watch")
    assert daemon.wait() == 1
    assert "'cluster-watch' hangs" in operator.systemd.status
    last = daemon.lines()[-1]
    assert (last["event"], last["code"]) == ("stopped", 1)
    assert "'cluster-watch' hangs" in last["why"]
    assert operator.is_alerted_of_no_answer("PeruserdDown")
    (tmp_path / "sabotage").unlink()
    daemon.start()
    operator.sees_that_all_is_well()
    one_node.serve(1)
