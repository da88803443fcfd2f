"""An instance whose HTTP port is abused: it serves its users, its scrapes and its checks all the same."""

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import psutil

from peruserd.daemon.http_server import MAX_CONNECTIONS
from peruserd.simcluster import SimClusterThread
from tests.system.daemon import Daemon
from tests.system.server import Server
from tests.waiting import eventually

# More than there are places for, and fewer than a process may open here.
CLIENTS = 3 * MAX_CONNECTIONS

ODD = (
    b"",
    b"GET /metrics HT",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
)


def test_slow_and_odd_clients_hold_nobody_up(
    cluster: SimClusterThread, server: Server, make_daemon: Callable[..., Daemon]
) -> None:
    """Hundreds of clients keep connections open while others ask without pause; the threads stay bounded."""
    daemon = make_daemon(url=cluster.urls[0]).start()
    daemon.wait_until_ready()
    supervisor = psutil.Process(daemon.pid)
    before = supervisor.num_threads()
    address = (urlsplit(daemon.http).hostname, urlsplit(daemon.http).port)
    stop = threading.Event()

    def ask_without_pause() -> None:
        while not stop.is_set():
            with suppress(OSError):
                daemon.get("/metrics")

    busy = [threading.Thread(target=ask_without_pause) for _ in range(4)]
    for each in busy:
        each.start()
    try:
        with ExitStack() as stack:
            for number in range(CLIENTS):
                client = stack.enter_context(socket.create_connection(address, timeout=30))
                # A client that was sent away already is as good.
                with suppress(ConnectionError):
                    client.sendall(ODD[number % len(ODD)])
            names = [f"someone-{number}" for number in range(10)]
            server.sign_up(names)
            eventually(lambda: all(map(server.is_served, names)), "the supervisor and its listeners work on")
            for _ in range(10):
                assert daemon.get("/healthz").text == "ok\n"
                # A thread gives its place back a moment before it has ended.
                assert supervisor.num_threads() <= before + MAX_CONNECTIONS + 10
            assert daemon.is_ready
    finally:
        stop.set()
        for each in busy:
            each.join()
    eventually(lambda: supervisor.num_threads() <= before + 1, "the threads of the clients have ended")
    # A traceback is no JSON.
    assert [line for line in daemon.lines() if "text" in line or line["level"] in ("warning", "error")] == []
    assert daemon.stop() == 0
