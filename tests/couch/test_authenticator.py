"""How an instance logs in: the authenticator, the sessions that wait for it, and a server that counts failures."""

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from peruserd.core.common.backoff import Backoff
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.configuration.decoding import ConfigError, load
from peruserd.core.processes import password_gate
from peruserd.core.processes.messages import Token
from peruserd.couch import authenticator as authenticator_module
from peruserd.couch import errors
from peruserd.couch.answers import Answer
from peruserd.couch.authenticator import Answers, Authenticator
from peruserd.couch.client import Client
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.refusals import FILE_NAME, BusyError, RefusalFile
from peruserd.couch.session import Session
from peruserd.couch.tokens import Tokens
from tests.couch.accounts import NAME, REFUSED, AccountServer
from tests.couch.connecting import Conversation, Request, answer
from tests.waiting import eventually

PASSWORD = "hunter2-s3cret"
RIGHT = "pass"


class Instance:
    """The parts of an instance for this: an authenticator, a session, a password file and a state directory."""

    def __init__(self, server: AccountServer, directory: Path, password: str) -> None:
        self.directory = directory
        self.password_file = directory / "password"
        self.password_file.write_text(password)
        text = f"[couchdb]\nurl = '{server.url}'\nusername = '{NAME}'\npassword_file = '{self.password_file}'"
        loaded = load(text, {}, "test")
        self.told: list[Answers | None] = []
        self.couchdb: CouchDBConfig = loaded.config.couchdb
        self.subject = Authenticator(
            self.couchdb, CredentialSource(loaded, {}), RefusalFile(directory), self.told.append
        )
        self.session = self.new_session()

    def new_session(self, *, patience_seconds: float = 0.0, connections: int = 1) -> Session:
        """Make another session with the instance's tokens."""
        return Session(self.couchdb, self.subject.tokens, patience_seconds=patience_seconds, connections=connections)

    def start(self) -> "Instance":
        """Start the authenticator."""
        self.subject.start()
        return self

    def get(self, path: str = "/_membership") -> Answer:
        """Make a request."""
        return self.session.request("GET", path)

    def wait_until_let_in(self) -> None:
        """Wait for a token."""
        eventually(lambda: self.subject.tokens.current is not None, "the instance is let in")

    def stop(self) -> None:
        """Stop all parts."""
        self.subject.stop()
        self.session.close()


Make = Callable[..., Instance]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make instances; these share nothing but a directory, if it is the same."""
    made: list[Instance] = []

    def build(server: AccountServer, name: str = "one", password: str = RIGHT) -> Instance:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        made.append(Instance(server, directory, password))
        return made[-1]

    yield build
    for instance in made:
        instance.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses short, and so read the password file often. The windows for counting keep their length."""
    monkeypatch.setattr(password_gate, "_AFTER_REFUSAL", (0.05, 0.1))
    for name in ("_AFTER_LOCK", "_AFTER_FAILURE", "_WHILE_UNSENT"):
        monkeypatch.setattr(password_gate, name, Backoff(initial_seconds=0.05, max_seconds=0.1))
    monkeypatch.setattr(authenticator_module, "_REREAD_SECONDS", 0.02)


def _count(server: AccountServer, method: str, path: str) -> int:
    return sum((each.method, each.path) == (method, path) for each in server.requests)


# Let in


def test_requests_carry_a_session_and_never_the_password(make: Make) -> None:
    """All sessions share one login, and only that request has the password."""
    with AccountServer() as server:
        instance = make(server).start()
        for _ in range(5):
            instance.get().expect(200)
        assert (server.logins, server.passwords_sent(), server.refusals) == (1, 1, 0)
        asked = [each for each in server.requests if each.path == "/_membership"]
        assert len(asked) == 5
        assert all(each.headers["cookie"].startswith("AuthSession=") for each in asked)
        assert all("other" not in each.headers["cookie"] for each in server.requests if "cookie" in each.headers)


def test_a_session_that_has_lapsed_is_refused_and_never_answered_as_nobodys(make: Make) -> None:
    """The answer to an anonymous read can mislead, such as 404 for a document that exists. The next login follows."""
    with AccountServer() as server:
        instance = make(server).start()
        instance.get().expect(200)
        server.change("pass")
        instance.get().expect(200)
        assert server.anonymous == 0
        assert (server.logins, server.max_refusals) == (2, 0)


def test_a_refreshed_session_is_taken_over(make: Make) -> None:
    """The server gives a newer cookie now and then, which is valid as long again, so no login is necessary."""
    with AccountServer(refreshes=True) as server:
        instance = make(server).start()
        for _ in range(4):
            instance.get().expect(200)
        cookies = [each.headers["cookie"] for each in server.requests if each.path == "/_membership"]
        assert len(set(cookies)) == 4
        assert server.logins == 1


def test_the_session_of_another_account_is_not_taken_over() -> None:
    """A proxy that caches answers may send another account's cookie, with which documents could seem to be missing."""
    ours, anothers, newer = (
        Secret(base64.urlsafe_b64encode(each).decode().rstrip("="))
        for each in (b"adm:6A6B6C6D:aaaa", b"mallory:6A6B6C6E:bbbb", b"adm:6A6B6C6F:cccc")
    )
    tokens = Tokens(Token(1, cookie=ours))
    for given, kept in ((anothers, ours), (newer, newer)):
        assert tokens.current is not None
        tokens.refresh(tokens.current, given)
        assert tokens.current.cookie == kept


@pytest.mark.parametrize("page", [b"<html>hello</html>", b"{}", b"[]", b'{"userCtx": null}'])
def test_a_page_for_everything_does_not_get_the_password(make: Make, page: bytes) -> None:
    """A portal, or another program, may answer every path. CouchDB's answer names the user."""

    def say(_request: Request, conversation: Conversation) -> bool:
        conversation.send(answer(200, page))
        return True

    with AccountServer() as server:
        server.on_request = say
        instance = make(server).start()
        with pytest.raises(errors.UnexpectedAnswerError):
            instance.get()
        assert {each.method for each in server.requests} == {"GET"}
        assert not [each for each in server.requests if "authorization" in each.headers]


def test_a_session_that_nobody_refreshes_is_made_anew_well_before_its_end(make: Make) -> None:
    """The server says how long a session lasts."""
    with AccountServer(max_age=1) as server:
        instance = make(server).start()
        instance.get().expect(200)
        eventually(lambda: server.logins >= 3, "it has logged in again, twice")
        instance.get().expect(200)
        assert server.anonymous == 0


def test_nobody_logs_in_without_credentials(tmp_path: Path) -> None:
    """Without credentials no login is tried, and a refusal is an ordinary answer."""
    with AccountServer() as server:
        loaded = load(f"[couchdb]\nurl = '{server.url}'", {}, "test")
        subject = Authenticator(loaded.config.couchdb, CredentialSource(loaded, {}), RefusalFile(tmp_path))
        subject.start()
        session = Session(loaded.config.couchdb, subject.tokens)
        assert session.request("GET", "/x").status == 401
        subject.stop()
        assert [each.path for each in server.requests] == ["/x"]
        assert not {"cookie", "authorization"} & set(server.requests[0].headers)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_server_without_sessions_gets_the_password_with_each_request(make: Make, status: int) -> None:
    """The same holds if a proxy forbids the path."""
    with AccountServer(sessions=False, no_sessions_status=status) as server:
        instance = make(server).start()
        instance.get().expect(200)
        assert "cookie" not in server.requests[-1].headers
        assert server.passwords_sent() == 2


def test_a_server_that_does_not_take_its_own_sessions_gets_the_password(make: Make) -> None:
    """The server is configured so, or several servers behind one address do not share a secret."""
    with AccountServer(takes_cookies=False) as server:
        instance = make(server).start()
        instance.get().expect(200)
        assert "cookie" not in server.requests[-1].headers
        assert server.refusals == 0


def test_nodes_that_do_not_take_anothers_session_get_the_password_too(make: Make) -> None:
    """If the secrets or salts of nodes differ, other nodes' paths get the password, and the own node's do not."""
    with AccountServer() as server:
        server.strangers = {"n2@host"}
        instance = make(server).start()
        instance.get("/_node/n2%40host/x").expect(200)
        instance.get("/_node/n3%40host/x").expect(200)
        instance.get("/_node/_local/x").expect(200)
        instance.get("/y").expect(200)
        carried = {each.path: AccountServer._basic(each)[0] for each in server.requests}
        assert carried["/_node/n2%40host/x"] == NAME
        assert carried["/_node/_local/x"] != NAME
        assert carried["/y"] != NAME
        assert server.logins == 1
        server.change("pass")
        instance.get("/_node/n2%40host/x").expect(200)


# Doubted


@pytest.mark.parametrize("status", [401, 403])
def test_what_a_users_own_code_answers_closes_nothing(make: Make, status: int) -> None:
    """A validation function can return any status and any text; the answer is only about that path."""
    words = "Account is temporarily locked due to multiple authentication failures"
    said = answer(status, {"error": "unauthorized", "reason": words})

    def throw(request: Request, conversation: Conversation) -> bool:
        if request.path == "/userdb-61/x":
            conversation.send(said)
        return request.path == "/userdb-61/x"

    with AccountServer() as server:
        server.on_request = throw
        instance = make(server).start()
        for _ in range(10):
            assert instance.session.request("PUT", "/userdb-61/x", body={}).status == status
            instance.get().expect(200)
        assert server.logins == 1
        assert server.refusals == 0
        assert instance.subject.trouble is None


def test_a_403_is_about_its_path_and_asks_for_nothing(make: Make) -> None:
    """Only 401, and CouchDB's own text about a lock, are a reason for a check."""

    def forbid(request: Request, conversation: Conversation) -> bool:
        if request.path == "/closed":
            conversation.send(answer(403, {"error": "forbidden", "reason": "no"}))
        return request.path == "/closed"

    with AccountServer() as server:
        server.on_request = forbid
        instance = make(server).start()
        instance.get().expect(200)
        before = len(server.requests)
        with pytest.raises(errors.UnauthorizedError):
            instance.get("/closed").expect(200)
        assert len(server.requests) == before + 1


def test_a_doubt_that_cannot_be_looked_into_is_the_trouble_that_is_in_the_way(make: Make) -> None:
    """It is not known whether the session is valid, so the answer does not count as one about the path."""
    broken = threading.Event()

    def fail(request: Request, conversation: Conversation) -> bool:
        if request.path == "/_session" and broken.is_set():
            conversation.send(answer(500, {"error": "x", "reason": "y"}))
            return True
        if request.path == "/closed":
            conversation.send(answer(*REFUSED))
        return request.path == "/closed"

    with AccountServer() as server:
        server.on_request = fail
        instance = make(server).start()
        instance.get().expect(200)
        broken.set()
        with pytest.raises(errors.ServerError):
            instance.get("/closed")
        broken.clear()
        assert instance.get("/closed").status == 401
        instance.get().expect(200)


def test_other_processes_doubts_are_looked_into_and_answered(make: Make) -> None:
    """Each process gets the number of its check back, and all are told of a new session."""
    with AccountServer() as server:
        instance = make(server).start()
        instance.wait_until_let_in()
        eventually(lambda: instance.told == [None], "all were told of the first session")
        first = instance.subject.state().token
        instance.subject.check_token(77, 3, None)
        eventually(lambda: {77: 3} in instance.told, "the check was looked into")
        assert instance.told == [None, {77: 3}]
        server.change("pass")
        instance.subject.check_token(78, 1, None)
        eventually(lambda: {78: 1} in instance.told, "the check was looked into")
        assert instance.told[2:] == [None, {78: 1}]
        second = instance.subject.state().token
        assert first is not None
        assert second is not None
        assert second.number > first.number


# Refused


def test_a_refused_password_is_sent_once_and_said(make: Make) -> None:
    """A caller gets the error at once, and no more requests go to the server."""
    with AccountServer() as server:
        instance = make(server, password="wrong").start()
        for _ in range(20):
            with pytest.raises(
                errors.RefusedError, match=r"refuses the password of adm, which is from .* CouchDB is asked again in"
            ):
                instance.get()
        assert server.passwords_sent() == server.refusals == 1
        assert _count(server, "GET", "/_membership") == 0
        assert "as soon as another one is there" in (instance.subject.trouble or "")
        assert instance.subject.refusals == 1


@pytest.mark.usefixtures("quick")
def test_a_password_that_is_put_right_is_found_by_itself(make: Make) -> None:
    """The password's file is read again. A session that waits long enough does not even notice."""
    with AccountServer() as server:
        instance = make(server, password="wrong").start()
        eventually(lambda: instance.subject.trouble, "it was refused")
        session = instance.new_session(patience_seconds=float("inf"))
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(session.request("GET", "/x").status))
        waiting.start()
        instance.password_file.write_text("pass")
        waiting.join(30)
        assert answers == [200]
        assert server.max_refusals <= password_gate.MAX_REFUSALS
        assert instance.subject.trouble is None


@pytest.mark.usefixtures("quick")
def test_a_wrong_password_never_locks_the_account(make: Make) -> None:
    """The account is never locked, for any length of time, and also if the password is another wrong one each time."""
    with AccountServer() as server:
        instance = make(server, password="wrong").start()
        for number in range(30):
            instance.password_file.write_text(f"wrong-{number}")
            time.sleep(0.02)
            with pytest.raises(errors.RefusedError):
                instance.get()
        assert server.refusals == password_gate.MAX_REFUSALS
        assert "none is sent" in (instance.subject.trouble or "") or "asked again" in (instance.subject.trouble or "")


def test_a_change_with_64_requests_in_flight_counts_once(make: Make) -> None:
    """A refused cookie is not counted, and one request checks it for all. With the new password all go on."""
    with AccountServer() as server:
        instance = make(server).start()
        instance.get().expect(200)
        session = instance.new_session(patience_seconds=float("inf"), connections=64)
        done = threading.Semaphore(0)
        wrong: list[int] = []
        leaving = threading.Event()

        def work() -> None:
            while not leaving.is_set():
                status = session.request("GET", "/work").status
                if status != 200:
                    wrong.append(status)
                done.release()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(64)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            done.acquire()
        with server.lock:
            server.change("new")
        eventually(lambda: instance.subject.trouble, "the password was refused")
        assert server.refusals == 1
        instance.password_file.write_text("new")
        instance.subject.reread()
        instance.wait_until_let_in()
        while done.acquire(blocking=False):
            pass
        for _ in range(200):
            assert done.acquire(timeout=30)
        leaving.set()
        for thread in threads:
            thread.join(30)
        assert wrong == []
        assert (server.max_refusals, server.logins, server.anonymous) == (1, 2, 0)


@pytest.mark.usefixtures("quick")
def test_a_lock_by_somebody_else_is_said_and_waited_for(make: Make) -> None:
    """No password of ours was refused, so the error says that it was somebody else. An existing session goes on."""
    with AccountServer() as server:
        running = make(server, "running").start()
        running.get().expect(200)
        server.lock_account()
        running.get().expect(200)
        starting = make(server, "starting").start()
        with pytest.raises(errors.RefusedError, match="somebody else behind the address has failed"):
            starting.get()
        server.unlock_account()
        starting.wait_until_let_in()
        starting.get().expect(200)
        assert server.refusals == 0


def test_refusals_outlive_a_restart_and_are_shared_with_commands(make: Make) -> None:
    """For the server a daemon with many restarts, and the commands beside it, are the same client."""
    with AccountServer() as server:
        for number in range(10):
            instance = make(server, password=f"wrong-{number}").start()
            with pytest.raises(errors.RefusedError) as caught:
                instance.get()
            instance.stop()
        assert server.refusals == password_gate.MAX_REFUSALS
        assert "were refused 4 times within minutes" in str(caught.value)
        assert "wrong" not in (instance.directory / FILE_NAME).read_text()


def test_the_right_password_is_sent_at_once_after_a_command_has_tried_the_wrong_one(make: Make) -> None:
    """The daemon tries a wrong password twice, and an operator's command once. The next one is the right one."""
    with AccountServer() as server:
        for _ in range(3):
            instance = make(server, password="wrong").start()
            with pytest.raises(errors.RefusedError):
                instance.get()
            instance.stop()
        instance = make(server, password=RIGHT).start()
        instance.wait_until_let_in()
        assert server.refusals == 3


@pytest.mark.usefixtures("quick")
def test_a_password_that_waits_its_turn_is_not_called_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words say that it is sent later. The file is read on meanwhile, and what is in it then is sent."""
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    with AccountServer() as server:
        instance = make(server, password="wrong")
        earlier = [now] * (password_gate.MAX_REFUSALS - 1)
        (instance.directory / FILE_NAME).write_text(json.dumps({"refusals": earlier}))
        instance.start()
        eventually(lambda: "refuses the password" in (instance.subject.trouble or ""), "it was refused")
        instance.password_file.write_text("wrong, too")
        eventually(lambda: "which is sent then" in (instance.subject.trouble or ""), "the next one is not sent yet")
        assert "refuses the password" not in (instance.subject.trouble or "")
        instance.password_file.write_text(RIGHT)
        now += password_gate.WINDOW_SECONDS
        instance.wait_until_let_in()
        assert server.refusals == 1


def test_one_that_ended_while_it_asked_counts_as_refused(make: Make) -> None:
    """The record is written before the password is sent."""
    with AccountServer() as server:
        instance = make(server, password="wrong")
        seen: list[str] = []

        def look(request: Request, _conversation: Conversation) -> bool:
            if request.method == "POST":
                seen.append((instance.directory / FILE_NAME).read_text())
            return False

        server.on_request = look
        instance.start()
        with pytest.raises(errors.RefusedError):
            instance.get()
        assert len(json.loads(seen[0])["refusals"]) == 1


def test_an_accepted_password_leaves_no_mark(make: Make) -> None:
    """The number of starts does not matter."""
    with AccountServer() as server:
        for _ in range(5):
            instance = make(server).start()
            instance.get().expect(200)
            instance.stop()
        assert json.loads((instance.directory / FILE_NAME).read_text())["refusals"] == []
        assert server.logins == 5


def test_a_clock_that_was_set_back_keeps_nobody_out_for_ever(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals with a time in the future count from now, as long as any other."""
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    with AccountServer() as server:
        instance = make(server)
        record = instance.directory / FILE_NAME
        record.write_text(json.dumps({"refusals": [now + 1e6, now + 2e6, now + 3e6, now + 4e6]}))
        instance.start()
        with pytest.raises(errors.RefusedError, match="none is sent for another 340 s"):
            instance.get()
        assert json.loads(record.read_text())["refusals"] == [now] * 4
        now += password_gate.WINDOW_SECONDS
        instance.subject.reread()
        instance.wait_until_let_in()


# Other failures


@pytest.mark.usefixtures("quick")
def test_a_server_that_is_away_is_asked_until_it_is_there(make: Make) -> None:
    """The error says that the server is away, its return is noticed, and no password is sent in vain."""
    away = threading.Event()
    away.set()

    def refuse(_request: Request, conversation: Conversation) -> bool:
        if away.is_set():
            conversation.cut()
        return away.is_set()

    with AccountServer() as server:
        server.on_request = refuse
        instance = make(server).start()
        with pytest.raises(errors.UnreachableError):
            instance.get()
        time.sleep(0.3)
        assert server.passwords_sent() == 0
        away.clear()
        instance.wait_until_let_in()
        instance.get().expect(200)


def test_a_server_that_comes_back_need_not_wait_for_the_next_login(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away the password is not sent, so the pauses are not those after a login that fails."""
    monkeypatch.setattr(password_gate, "_AFTER_FAILURE", Backoff(initial_seconds=600.0, max_seconds=600.0))
    away = threading.Event()
    away.set()

    def refuse(_request: Request, conversation: Conversation) -> bool:
        if away.is_set():
            conversation.send(answer(503, {"error": "x", "reason": "y"}))
        return away.is_set()

    with AccountServer() as server:
        server.on_request = refuse
        instance = make(server).start()
        with pytest.raises(errors.ServerError):
            instance.get()
        away.clear()
        instance.wait_until_let_in()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_cannot_say_whether_counts_nothing(make: Make, status: int) -> None:
    """A login is tried until it gets an answer, more often than after a refusal."""
    failures = [None] * 6

    def fail(request: Request, conversation: Conversation) -> bool:
        if request.method == "POST" and failures:
            failures.pop()
            conversation.send(answer(status, {"error": "x", "reason": "y"}))
            return True
        return False

    with AccountServer() as server:
        server.on_request = fail
        instance = make(server).start()
        instance.wait_until_let_in()
        assert not failures


@pytest.mark.usefixtures("quick")
def test_logins_whose_answers_are_lost_count_as_refused(make: Make) -> None:
    """The server may have refused each, and counted it."""

    def lose(request: Request, conversation: Conversation) -> bool:
        if request.method == "POST":
            server._answer(request)
            conversation.cut()
        return request.method == "POST"

    with AccountServer() as server:
        server.on_request = lose
        make(server, password="wrong").start()
        eventually(lambda: server.refusals == password_gate.MAX_REFUSALS, "all tries were used")
        time.sleep(0.5)
        assert server.refusals == password_gate.MAX_REFUSALS


def test_a_redirect_is_not_followed_with_the_password(make: Make) -> None:
    """CouchDB does not answer like that, so the password is not sent at all."""
    seen: list[str] = []

    def redirect(request: Request, conversation: Conversation) -> bool:
        seen.append(request.method)
        conversation.send(b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        return True

    with AccountServer() as server:
        server.on_request = redirect
        instance = make(server).start()
        with pytest.raises(errors.UnexpectedAnswerError):
            instance.get()
        assert set(seen) == {"GET"}


@pytest.mark.usefixtures("quick")
def test_a_password_file_that_is_gone_for_a_moment_is_no_end(make: Make) -> None:
    """Editors and rotations remove files for a moment. The earlier password stays until the file is there again."""
    with AccountServer() as server:
        instance = make(server, password="wrong").start()
        eventually(lambda: instance.subject.trouble, "it was refused")
        instance.password_file.unlink()
        instance.subject.reread()
        time.sleep(0.1)
        instance.password_file.write_text("pass")
        instance.wait_until_let_in()


def test_a_password_pipe_is_read_once(tmp_path: Path) -> None:
    """A second read of a pipe would wait for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("pass\n"))
    writer.start()
    loaded = load(f"[couchdb]\nusername = 'adm'\npassword_file = '{pipe}'", {}, "test")
    source = CredentialSource(loaded, {})
    writer.join()
    again = source.read()
    assert again is not None
    assert again.password.value == "pass"


def test_what_a_source_says_can_change(tmp_path: Path) -> None:
    """The file and the systemd credential can change; the environment cannot."""
    (tmp_path / "couchdb-password").write_text("one")
    loaded = load("[couchdb]\nusername = 'adm'", {}, "test")
    source = CredentialSource(loaded, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    (tmp_path / "couchdb-password").write_text("two")
    read = source.read()
    assert read is not None
    assert (read.password.value, source.is_file) == ("two", True)
    (tmp_path / "couchdb-password").unlink()
    with pytest.raises(ConfigError):
        source.read()
    assert source.credentials == read
    fixed = CredentialSource(loaded, {"PERUSERD_COUCHDB_PASSWORD": "env"})
    again = fixed.read()
    assert again is not None
    assert (again.password.value, fixed.is_file) == ("env", False)


def test_an_account_that_is_no_admin_is_said(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The account can log in, but can do little."""
    with AccountServer(roles=[]) as server:
        instance = make(server).start()
        instance.wait_until_let_in()
    eventually(lambda: "is no server admin" in capsys.readouterr().out, "it was said")


def test_a_stop_ends_whoever_waits(make: Make) -> None:
    """After the end no thread waits for a password."""
    with AccountServer() as server:
        instance = make(server, password="wrong").start()
        eventually(lambda: instance.subject.trouble, "it was refused")
        session = instance.new_session(patience_seconds=float("inf"))
        raised: list[BaseException] = []

        def ask() -> None:
            try:
                session.request("GET", "/x")
            except errors.CouchError as error:
                raised.append(error)

        waiting = threading.Thread(target=ask)
        waiting.start()
        instance.stop()
        waiting.join(30)
        assert [type(each) for each in raised] == [errors.InterruptedRequestError]


# Its secrets


def test_neither_password_nor_session_is_ever_shown(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The password is in no log line, error, representation or file, for any result of a login."""
    said = ""
    with AccountServer() as server:
        server.change(PASSWORD)
        instance = make(server, password=PASSWORD).start()
        instance.get().expect(200)
        token = instance.subject.tokens.current
        assert token is not None
        assert token.cookie is not None
        secrets = [PASSWORD, token.cookie.value]
        said += repr(vars(instance.subject)) + repr(vars(instance.subject.tokens)) + repr(vars(instance.session))
        said += repr(instance.get()) + repr(instance.subject.state())
        server.change("other")
        with pytest.raises(errors.RefusedError) as caught:
            instance.get()
        said += repr(caught.value) + str(caught.value)
        instance.stop()
    for file in instance.directory.iterdir():
        said += "" if file == instance.password_file else file.read_text()
    printed = capsys.readouterr()
    said += printed.out + printed.err
    assert "logged in" in said
    assert not [each for each in secrets if each in said]


def test_a_probe_that_is_not_found_says_nothing_of_what_was_asked_for(make: Make) -> None:
    """A proxy begins to hide `/_session`. A database whose page is refused meanwhile must not count as missing."""
    hidden = threading.Event()

    def hide(request: Request, conversation: Conversation) -> bool:
        if not hidden.is_set():
            return False
        missing = (404, {"error": "not_found", "reason": "missing"})
        conversation.send(answer(*(missing if request.path == "/_session" else REFUSED)))
        return True

    with AccountServer() as server:
        server.on_request = hide
        instance = make(server).start()
        instance.get().expect(200)
        hidden.set()
        with pytest.raises(errors.RefusedError, match="/_session"):
            Client(instance.session).shard_map("_local", "userdb-61")


def test_a_doubt_of_an_old_session_is_looked_into_before_another_login_is_tried(make: Make) -> None:
    """The session and the password are refused. That concerns the whole instance, and is no answer about a path."""
    with AccountServer() as server:
        instance = make(server).start()
        instance.get().expect(200)
        server.change("new")
        instance.subject.tokens.renewed_at -= 1e6
        with pytest.raises(errors.RefusedError, match="refuses the password"):
            instance.get()
        assert server.refusals == 1


@contextmanager
def _another_asks(directory: Path) -> Iterator[None]:
    """Hold the record like another process, as soon as the instance has released it after its own login."""
    with ExitStack() as stack:

        def hold() -> object:
            with suppress(BusyError):
                return stack.enter_context(RefusalFile(directory).held())
            return None

        eventually(hold, "the record can be held")
        yield


def test_a_doubt_while_another_process_asks_is_no_answer_about_the_path(make: Make) -> None:
    """The password goes with each request, and only one process at a time may check whether it is still right."""
    with AccountServer(sessions=False) as server:
        instance = make(server).start()
        instance.get().expect(200)
        server.on_request = _refusing("/closed")
        with _another_asks(instance.directory), pytest.raises(errors.TimedOutError, match="another process"):
            instance.get("/closed")
        assert instance.get("/closed").status == 401
        instance.get().expect(200)


def test_a_check_that_failed_stays_failed_until_the_next_one(make: Make) -> None:
    """The thread that waits for it may run only after another turn. It must not take the token for checked."""
    with AccountServer(sessions=False) as server:
        instance = make(server)
        authenticator = instance.subject
        authenticator._do_due()
        with _another_asks(instance.directory):
            authenticator._ask(1, None)
            authenticator._do_due()
            assert isinstance(authenticator.tokens.trouble, errors.TimedOutError)
        authenticator._do_due()
        assert isinstance(authenticator.tokens.trouble, errors.TimedOutError)
        authenticator._ask(2, None)
        authenticator._do_due()
        assert authenticator.tokens.trouble is None
        with _another_asks(instance.directory):
            authenticator.check_token("a listener", 1, None)
            authenticator._do_due()
            assert "another process" in (authenticator.state().why or "")


def _refusing(path: str) -> Callable[[Request, Conversation], bool]:
    def refuse(request: Request, conversation: Conversation) -> bool:
        if request.path == path:
            conversation.send(answer(*REFUSED))
        return request.path == path

    return refuse
