"""The HTTP page over a real socket."""

import socket
import threading
from collections.abc import Iterator

import pytest
import requests
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from peruserd.core.configuration.config import HTTPConfig
from peruserd.core.processes.status import Status, decode_status, encode_status
from peruserd.daemon.http import Page, serve
from peruserd.daemon.http_server import HTTPServer, Stage
from peruserd.daemon.status_page import StatusPages
from tests.daemon.statuses import STATUS
from tests.waiting import PATIENCE_SECONDS, eventually

HEALTH = {"healthy": True, "ready": False}


@pytest.fixture
def url() -> Iterator[str]:
    """Serve a page with one metric on a free port."""
    registry = CollectorRegistry()
    Counter("peruserd_things", "Things.", registry=registry).inc(3)
    page = Page(
        registry,
        healthy=lambda: (HEALTH["healthy"], "ok"),
        ready=lambda: (HEALTH["ready"], "not caught up: x"),
        status=StatusPages(lambda: STATUS, lambda: encode_status(STATUS)),
    )
    server = HTTPServer(page, "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def test_metrics_are_served_in_prometheus_format(url: str) -> None:
    """A scrape gets the registry's metrics with the content type of the text format."""
    answer = requests.get(f"{url}/metrics", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "peruserd_things_total 3.0" in answer.text


@pytest.mark.parametrize("version", ["x", "1.", "", "1.0.0; escaping=x"])
def test_metrics_are_served_to_clients_that_name_an_odd_version(url: str, version: str) -> None:
    """The library fails over some of them, and each such request would leave a traceback in the log."""
    answer = requests.get(f"{url}/metrics", headers={"Accept": f"text/plain;version={version}"}, timeout=10)
    assert answer.status_code == 200
    assert "peruserd_things_total 3.0" in answer.text


def test_checks_answer_200_or_503_with_the_reason(url: str) -> None:
    """Health and readiness have their own pages, and a negative answer says why."""
    assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
    ready = requests.get(f"{url}/readyz", timeout=10)
    assert ready.status_code == 503
    assert ready.text == "not caught up: x\n"


def test_the_status_is_json_that_nobody_keeps(url: str) -> None:
    """An old status would show a trouble that is over, or hide one."""
    answer = requests.get(f"{url}/status.json", timeout=10)
    assert answer.status_code == 200
    assert decode_status(answer.content) == STATUS
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        (None, "text/plain; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
    ],
)
def test_browsers_get_the_page_and_others_the_list_of_pages(url: str, accept: str | None, kind: str) -> None:
    """A person with curl reads a few lines, and all pages are named there."""
    answer = requests.get(url, headers={"Accept": accept}, timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"], answer.headers["Vary"]) == (200, kind, "Accept")
    for path in ("/status.json", "/metrics", "/healthz", "/readyz"):
        assert path in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/metrics/more", "/healthz/"])
def test_every_other_path_is_404(url: str, path: str) -> None:
    """The page answers on its own paths only."""
    assert requests.get(url + path, timeout=10).status_code == 404


def test_only_reading_is_allowed(url: str) -> None:
    """A POST changes nothing and is refused; HEAD is GET without a body."""
    assert requests.post(f"{url}/metrics", timeout=10).status_code == 405
    head = requests.head(f"{url}/metrics", timeout=10)
    assert head.status_code == 200
    assert head.text == ""


def test_a_port_in_use_is_an_error_at_once(url: str) -> None:
    """Two servers on one port are an error of the configuration."""
    port = int(url.rpartition(":")[2])
    page = Page(CollectorRegistry(), healthy=lambda: (True, ""), ready=lambda: (True, ""))
    with pytest.raises(OSError, match="in use"):
        HTTPServer(page, "127.0.0.1", port)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.org", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Other: 1\r\nhost: localhost", 400),
        ("GET /users/alice HTTP/1.1\r\nHost: localhost:1,evil.example.org", 400),
        ("GET /healthz HTTP/1.1\r\nX-Other: 1", 400),
        ("GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b", 400),
        ("GET /healthz HTTP/1.0", 200),
        ("GET /healthz HTTP/1.1\r\nHost: localhost", 200),
    ],
)
def test_a_request_without_exactly_one_host_is_400(url: str, head: str, status: int) -> None:
    """RFC 9112 demands that: with two Host headers a proxy and this page could each use another one."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as client:
        client.sendall(f"{head}\r\n\r\n".encode())
        answer = client.makefile("rb").read().decode()
    assert answer.startswith(f"HTTP/1.0 {status} ")
    kind, body = answer.partition("\r\n\r\n")[::2]
    assert "text/plain" in kind
    assert body.count("\n") == 1


def test_the_configured_names_and_the_machine_s_own_are_known() -> None:
    """Prometheus asks under the name in its list of targets."""
    page = Page(CollectorRegistry(), healthy=lambda: (True, "ok"), ready=lambda: (True, "ok"))
    server = serve(page, HTTPConfig(listen="127.0.0.1:0", hosts="a.example.org, B.example.org"))
    try:
        hosts = {"a.example.org": 200, "b.example.org:9984": 200, socket.gethostname(): 200, "c.example.org": 421}
        for host, status in hosts.items():
            answer = requests.get(f"http://127.0.0.1:{server.port}/healthz", headers={"Host": host}, timeout=10)
            assert (host, answer.status_code) == (host, status)
    finally:
        server.stop()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/"])
def test_many_who_ask_for_the_same_cost_no_more_than_a_few(path: str) -> None:
    """A hundred threads that compute would keep the processor from the supervisor's loop."""
    at_once, most, made = [0], [0], [0]
    go = threading.Event()

    def make() -> None:
        made[0] += 1
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        go.wait(PATIENCE_SECONDS)
        at_once[0] -= 1

    def check() -> tuple[bool, str]:
        make()
        return True, "ok"

    def latest() -> Status:
        make()
        return STATUS

    class Things(Collector):
        """A metric that takes its time."""

        def collect(self) -> Iterator[Metric]:
            """Return nothing."""
            make()
            yield from ()

    registry = CollectorRegistry()
    pages = StatusPages(latest, lambda: b"")
    page = Page(registry, healthy=check, ready=check, status=pages)
    # A registry asks its collectors for their names at first.
    go.set()
    registry.register(Things())
    go.clear()
    made[0] = 0
    server = HTTPServer(page, "127.0.0.1", 0)
    server.start()
    url = f"http://127.0.0.1:{server.port}{path}"
    answers: list[int] = []
    headers = {"Accept": "text/html"}
    asking = [
        threading.Thread(target=lambda: answers.append(requests.get(url, headers=headers, timeout=60).status_code))
        for _ in range(20)
    ]
    for each in asking:
        each.start()
    eventually(lambda: [each.stage for each in list(server._places._taken)] == [Stage.WORKING] * len(asking))
    go.set()
    for each in asking:
        each.join(PATIENCE_SECONDS)
    server.stop()
    assert answers == [200] * len(asking)
    assert most == [1]
    assert made[0] < len(asking) / 2
