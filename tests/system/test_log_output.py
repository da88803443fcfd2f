"""Whatever happens to standard error, users are served, and a stop is in order."""

import socket
from collections.abc import Callable
from contextlib import closing, suppress

import pytest
import requests

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
        with suppress(requests.ConnectionError):
            return daemon.is_ready
        return False

    eventually(is_ready, "the daemon is ready")
    cluster.seed_users(300, "served")
    daemon.wait_for_total("peruserd_users_provisioned_total", 300)
    assert daemon.stop() == 0
