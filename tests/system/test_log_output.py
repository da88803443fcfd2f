"""Whatever happens to standard error, users are served. The audit's lines are in one file, whoever wrote them."""

import json
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from peruserd.simcluster import SimClusterThread
from tests.system.daemon import Daemon
from tests.waiting import eventually

PLACES = {
    "closed": 'exec "$@" 2>&-',
    "full": 'exec "$@" 2>/dev/full',
    "without a reader": 'exec "$@" 2> >(head -n 3 >/dev/null)',
    "of a reader that hangs": 'exec "$@" 2> >(head -n 3 >/dev/null; sleep 600)',
}


@pytest.mark.parametrize("place", list(PLACES))
def test_an_instance_serves_users_although_its_log_cannot_be_written(
    cluster: SimClusterThread,
    make_daemon: Callable[..., Daemon],
    need_tool: Callable[[str], str],
    place: str,
) -> None:
    """That holds for the supervisor and the listeners alike, which share standard error."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    under = (need_tool("bash"), "-c", PLACES[place], "peruserd")
    daemon = make_daemon(url=cluster.urls[0], config={"http": {"listen": listen}}, under=under)
    daemon.launch()
    daemon.http = f"http://{listen}"

    def is_ready() -> bool:
        with suppress(ConnectionError):
            return daemon.is_ready
        return False

    eventually(is_ready, "the daemon is ready")
    cluster.seed_users(300, "served")
    daemon.wait_for_total("peruserd_users_provisioned_total", 300)
    assert daemon.stop() == 0


def test_all_processes_write_to_the_file_of_the_audit_also_after_a_rotation(
    cluster: SimClusterThread, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """The listeners follow the renaming too. Each database made is one line, in the old file or in the new one."""
    file, old = tmp_path / "audit.log", tmp_path / "audit.log.1"
    config = {"log": {"audit_file": str(file), "level": "error"}}
    daemon = make_daemon(url=cluster.urls[0], config=config)
    daemon.launch()
    eventually(file.exists, "the file is made")
    first = cluster.seed_users(20, "first")
    eventually(lambda: len(_granted(file)) == len(first), "the first users are served")
    file.rename(old)
    daemon.hang_up()
    eventually(file.exists, "a new file is made")
    second = cluster.seed_users(20, "second")
    eventually(lambda: len(_granted(file, old)) == len(first + second), "all users are served")
    assert _granted(file)
    assert {each["listener"] for each in _granted(file, old)} == {
        "00000000-7fffffff@node1@127.0.0.1",
        "80000000-ffffffff@node1@127.0.0.1",
    }
    assert daemon.stop() == 0
    assert daemon.lines("audit") == []


def _granted(*files: Path) -> list[dict[str, str]]:
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if line["action"] == "create"]
