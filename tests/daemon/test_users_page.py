"""The page about one user, over a real socket, with looks whose results are given."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry

from peruserd.core.configuration.choices import Audience
from peruserd.core.configuration.config import HTTPConfig
from peruserd.core.users.readiness import Readiness, UserState
from peruserd.couch.errors import TimedOutError
from peruserd.daemon import users_page
from peruserd.daemon.http import Page
from peruserd.daemon.http_messages import Answer, Request
from peruserd.daemon.http_server import HTTPServer
from peruserd.daemon.users_page import Access, Look, UsersPage
from tests.waiting import PATIENCE_SECONDS, eventually

HERE = Access(is_open=True, loopback_only=True)

# No test waits so long for an answer that comes at once.
LONG = 50


class Looks:
    """Looks that show the users in `state`, and remember the names."""

    def __init__(self, state: UserState = UserState.SERVED) -> None:
        self.state = state
        self.asked: list[str] = []
        self.whole = 0

    def __call__(self, user: str, number: int) -> Readiness | None:
        self.asked.append(user)
        self.whole += number == 0
        return Readiness(user, self.state)


class _Pages(UsersPage):
    """Hands requests on to the page of the current test, because to end a server takes half a second."""

    def __init__(self) -> None:
        self.url = ""
        self.current: UsersPage | None = None

    def __call__(self, request: Request) -> Answer:
        assert self.current is not None
        return self.current(request)


PAGES = _Pages()


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    """Serve the pages of all tests from one port."""
    page = Page(CollectorRegistry(), healthy=lambda: (True, "ok"), ready=lambda: (True, "ok"), users=PAGES)
    server = HTTPServer(page, "127.0.0.1", 0)
    server.start()
    PAGES.url = f"http://127.0.0.1:{server.port}"
    yield
    server.stop()


@contextmanager
def _page(look: Look, access: Access = HERE) -> Iterator[tuple[str, UsersPage]]:
    PAGES.current = users = UsersPage(look, access)
    try:
        yield PAGES.url, users
    finally:
        users.stop()


def _get(url: str, **more: Any) -> requests.Response:
    return requests.get(url, timeout=PATIENCE_SECONDS, **more)


@contextmanager
def _asking(url: str, number: int = 1) -> Iterator[list[requests.Response]]:
    """Ask this many times, each in its own thread; at the end all have an answer."""
    answers: list[requests.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(_get(url))) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    assert len(answers) == number


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (UserState.SERVED, 200),
        (UserState.IN_PROGRESS, 202),
        (UserState.QUARANTINED, 409),
        (UserState.UNKNOWN, 404),
        (UserState.UNSERVABLE, 400),
        (UserState.UNCLEAR, 503),
    ],
)
def test_each_state_has_a_status_and_says_its_name(state: UserState, status: int) -> None:
    """The status is for scripts, and the word for people. The answer says nothing else about the user."""
    with _page(Looks(state)) as (url, _):
        answer = _get(f"{url}/users/alice")
        assert (answer.status_code, answer.json()) == (status, {"user": "alice", "state": state.value})
        assert answer.headers["Content-Type"] == "application/json"
        assert ("Retry-After" in answer.headers) == (status == 503)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        head = requests.head(f"{url}/users/alice", timeout=PATIENCE_SECONDS)
        assert (head.status_code, head.text) == (status, "")


def test_the_kind_of_a_failure_is_said() -> None:
    """A failure in quarantine has a kind, and the answer says whether the instance tries again by itself."""
    held = Readiness("alice", UserState.QUARANTINED, "held", passing=False)
    with _page(lambda _user, _number: held) as (url, _):
        body = {"user": "alice", "state": "quarantined", "kind": "held", "passing": False}
        assert _get(f"{url}/users/alice").json() == body


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a%2Fb", "a/b"),
        ("a/b", "a/b"),
        ("%2F", "/"),
        ("%2e%2e%2Fmetrics", "../metrics"),
        ("jos%C3%A9%20%F0%9F%98%80", "josé 😀"),
        ("josé", "josé"),
        ("a%3Fwait%3D5%23", "a?wait=5#"),
        ("%00%0A", "\0\n"),
        ("100%25", "100%"),
        ("a+b", "a+b"),
    ],
)
def test_the_name_is_what_follows_percent_decoded(path: str, name: str) -> None:
    """A name can have any Unicode, including slashes and control characters."""
    looks = Looks()
    with _page(looks) as (url, _):
        assert _get(f"{url}/users/{path}").json()["user"] == name
    assert looks.asked == [name]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/users/", "bad_name"),
        ("/users/%FF", "bad_name"),
        ("/users/%C1%A1lice", "bad_name"),
        ("/users/%ED%A0%80", "bad_name"),
        ("/users/alice?wait=soon", "bad_wait"),
        ("/users/alice?wait=-1", "bad_wait"),
        ("/users/alice?wait=nan", "bad_wait"),
        ("/users/alice?wait=inf", "bad_wait"),
        ("/users/alice?wait=", "bad_wait"),
        ("/users/alice?" + "a=1&" * 99, "bad_wait"),
    ],
)
def test_a_question_that_cannot_be_meant_is_400_and_asks_nobody(path: str, error: str) -> None:
    """Overlong UTF-8 and surrogates are not valid in names, and a wait must be a number."""
    looks = Looks()
    with _page(looks) as (url, _):
        answer = _get(url + path)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert looks.asked == []


def test_a_wait_ends_as_soon_as_the_user_is_served() -> None:
    """The page looks again and again, and answers before the time of the wait is over."""
    looks = Looks(UserState.IN_PROGRESS)
    with _page(looks) as (url, _), _asking(f"{url}/users/alice?wait={LONG}") as answers:
        eventually(lambda: len(looks.asked) > 2)
        assert not answers
        looks.state = UserState.SERVED
    assert answers[0].status_code == 200


class Waits:
    """A clock that each wait puts forward, and an event that never happens."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False

    def set(self) -> None:
        """Never happen."""


def test_a_wait_that_is_over_says_how_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is not served in time is in progress, after a last look at the end."""
    looks, waits = Looks(UserState.IN_PROGRESS), Waits()
    with _page(looks) as (url, page):
        monkeypatch.setattr(page, "_clock", waits)
        monkeypatch.setattr(page, "_stopping", waits)
        answer = _get(f"{url}/users/alice?wait=0.15")
    assert (answer.status_code, answer.json()["state"]) == (202, "in_progress")
    assert len(looks.asked) == 4
    assert waits.now == pytest.approx(0.15)


@pytest.mark.parametrize("state", [UserState.UNKNOWN, UserState.UNSERVABLE])
def test_nobody_waits_for_what_does_not_come_by_itself(state: UserState) -> None:
    """A missing user document is answered at once."""
    looks = Looks(state)
    with _page(looks) as (url, _):
        assert _get(f"{url}/users/alice?wait={LONG}").json()["state"] == state.value
    assert len(looks.asked) == 1


def test_a_server_that_does_not_answer_is_503_with_the_kind_of_error_alone() -> None:
    """The server's error texts have addresses and paths, so they are not passed on."""

    def look(_user: str, _number: int) -> Readiness:
        raise TimedOutError("GET /_users: no answer in time from http://10.0.0.1:5984")

    with _page(look) as (url, _):
        answer = _get(f"{url}/users/alice")
    assert answer.status_code == 503
    assert answer.json() == {"user": "alice", "state": "unclear", "kind": "timeout"}


def test_waits_are_bounded_and_other_pages_are_answered_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many waits the next is 503 at once. Health, metrics and requests without a wait are not delayed."""
    monkeypatch.setattr(users_page, "_MAX_WAITS", 3)
    looks = Looks(UserState.IN_PROGRESS)
    with _page(looks) as (url, users):
        with _asking(f"{url}/users/alice?wait={LONG}", 3) as answers:
            eventually(lambda: looks.whole == 3)
            beyond = _get(f"{url}/users/bob?wait={LONG}")
            assert (beyond.status_code, beyond.json()["error"]) == (503, "busy")
            assert beyond.headers["Retry-After"] == "1"
            assert _get(f"{url}/users/bob").status_code == 202
            assert _get(f"{url}/healthz").status_code == 200
            assert _get(f"{url}/metrics").status_code == 200
            assert not answers
            # The end of the instance ends all waits.
            users.stop()
        assert [each.status_code for each in answers] == [202] * 3


def test_looks_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of requests to the server at once is limited. A client that waits too long for its turn gets 503."""
    monkeypatch.setattr(users_page, "MAX_LOOKS", 2)
    monkeypatch.setattr(users_page, "_MAX_AT_ONCE", 4)
    monkeypatch.setattr(users_page, "_PATIENCE_SECONDS", 0.05)
    go, under_way, most = threading.Event(), [0], [0]

    def look(user: str, _number: int) -> Readiness:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        go.wait(PATIENCE_SECONDS)
        under_way[0] -= 1
        return Readiness(user, UserState.SERVED)

    with _page(look) as (url, _), _asking(f"{url}/users/alice", 6) as answers:
        eventually(lambda: len(answers) == 4)
        assert [each.status_code for each in answers] == [503] * 4
        go.set()
    assert most == [2]


def test_a_wait_goes_on_while_the_server_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next look may not get a turn in time; the wait goes on."""
    monkeypatch.setattr(users_page, "MAX_LOOKS", 1)
    monkeypatch.setattr(users_page, "_PATIENCE_SECONDS", 0.02)
    began, held, go, others = threading.Event(), threading.Event(), threading.Event(), []

    def look(user: str, _number: int) -> Readiness:
        if user == "slow":
            held.set()
            go.wait(PATIENCE_SECONDS)
            others.append(user)
        elif user == "alice":
            began.set()
        return Readiness(user, UserState.SERVED if others else UserState.IN_PROGRESS)

    with _page(look) as (url, _), _asking(f"{url}/users/alice?wait={LONG}") as answers:
        began.wait(PATIENCE_SECONDS)
        slow = threading.Thread(target=lambda: _get(f"{url}/users/slow"))
        slow.start()
        held.wait(PATIENCE_SECONDS)
        assert _get(f"{url}/users/bob").status_code == 503
        go.set()
        slow.join(PATIENCE_SECONDS)
    assert answers[0].status_code == 200


def test_names_are_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the burst and the rate there are no looks, for any name."""
    monkeypatch.setattr(users_page, "_BURST", 5)
    monkeypatch.setattr(users_page, "_LOOKS_PER_SECOND", 0.001)
    looks = Looks(UserState.UNKNOWN)
    with _page(looks) as (url, _):
        statuses = [_get(f"{url}/users/name-{number}").status_code for number in range(8)]
    assert statuses == [404] * 5 + [503] * 3
    assert len(looks.asked) == 5


def test_a_client_that_hangs_up_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait ends when its client hangs up, so each place costs the client an open connection."""
    monkeypatch.setattr(users_page, "_MAX_WAITS", 1)
    looks = Looks(UserState.IN_PROGRESS)
    with _page(looks) as (url, _):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            client.sendall(f"GET /users/alice?wait={LONG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            eventually(lambda: looks.asked)
            assert _get(f"{url}/users/bob?wait=1").status_code == 503
        eventually(lambda: _get(f"{url}/users/bob?wait=0.01").status_code == 202)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "192.0.2.7"},
        {"Origin": "https://example.org"},
        {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "10.0.0.7"},
        {"X-Forwarded-Proto": "https"},
    ],
)
def test_a_web_site_cannot_ask_through_a_browser_of_this_machine(headers: dict[str, str]) -> None:
    """While the page is only for this machine, requests for other hosts or from other sites are refused."""
    looks = Looks()
    with _page(looks) as (url, _):
        answer = _get(f"{url}/users/alice", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "elsewhere")
        assert _get(f"{url}/users/alice", headers={"Host": "localhost"}).status_code == 200
    assert looks.asked == ["alice"]
    with _page(Looks(), Access(is_open=True, loopback_only=False)) as (url, _):
        assert _get(f"{url}/users/alice", headers=headers).status_code == 200


def test_a_page_that_is_closed_says_so_and_asks_nobody() -> None:
    """The answer is not 404, because a 404 would mean an unknown user."""
    looks = Looks()
    with _page(looks, Access(is_open=False, loopback_only=True)) as (url, _):
        answer = _get(f"{url}/users/alice")
        assert (answer.status_code, answer.json()["error"]) == (403, "closed")
    assert looks.asked == []


@pytest.mark.parametrize(
    ("listen", "users", "is_open", "loopback_only"),
    [
        ("127.0.0.1:9984", Audience.LOOPBACK, True, True),
        ("[::1]:9984", Audience.LOOPBACK, True, True),
        ("localhost:9984", Audience.LOOPBACK, True, True),
        ("0.0.0.0:9984", Audience.LOOPBACK, False, True),
        ("10.0.0.1:9984", Audience.LOOPBACK, False, True),
        ("0.0.0.0:9984", Audience.EVERYBODY, True, False),
        ("127.0.0.1:9984", Audience.EVERYBODY, True, False),
        ("127.0.0.1:9984", Audience.NOBODY, False, False),
    ],
)
def test_the_page_is_closed_beyond_loopback_by_default(
    listen: str, users: Audience, *, is_open: bool, loopback_only: bool
) -> None:
    """Only the configuration opens the page to all clients that reach the port."""
    assert Access.configured(HTTPConfig(listen, users)) == Access(is_open, loopback_only)


def test_other_methods_are_refused() -> None:
    """Other methods are refused, because the page changes nothing."""
    asked: list[Callable[..., requests.Response]] = [requests.post, requests.put, requests.delete]
    looks = Looks()
    with _page(looks) as (url, _):
        assert [each(f"{url}/users/alice", timeout=10).status_code for each in asked] == [405] * 3
    assert looks.asked == []
