import base64
import socket
import ssl
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from peruserd.core.processes.messages import Token
from peruserd.core.users.quarantine import Advice
from peruserd.couch import errors
from peruserd.couch import session as session_module
from peruserd.couch.answers import Answer
from peruserd.couch.session import Session, quoted
from peruserd.couch.tokens import Tokens
from tests.couch.connecting import (
    Conversation,
    TalkingServer,
    answer,
    answering,
    session_to,
    settings_of,
)
from tests.waiting import PATIENCE_SECONDS, eventually

OK = answer(200, {"ok": True})
SHORT_SECONDS = 0.3


def _always(conversation: Conversation) -> None:
    for _ in conversation.requests():
        conversation.send(OK)


def _silent(conversation: Conversation) -> None:
    for _ in conversation.requests():
        conversation.hold()


# Requests


@pytest.mark.parametrize("status", [101, 102, 103, 199])
def test_what_follows_an_announcement_is_no_answer_to_the_next_request(status: int) -> None:
    """The real answer comes later, on the same connection, and must not become the answer to another request."""

    def talk(conversation: Conversation) -> None:
        for request in conversation.requests():
            if request.path == "/first":
                conversation.send(f"HTTP/1.1 {status} Soon\r\n\r\n".encode())
                conversation.pause(SHORT_SECONDS)
            conversation.send(answer(200, {"path": request.path}))

    with TalkingServer(talk) as server:
        session = session_to(server.url)
        with pytest.raises(errors.UnexpectedAnswerError, match=f"/first: {status}"):
            session.request("GET", "/first")
        assert session.request("GET", "/second").decode(dict) == {"path": "/second"}


@pytest.mark.parametrize("size", [b"-5", b"-1", b"zz", b"", b"1_0"])
def test_a_chunk_of_an_impossible_size_is_a_failed_request(size: bytes) -> None:
    """The library below raises another kind of error for some of them."""

    def talk(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nxxxx\r\n")
        conversation.cut()

    with TalkingServer(talk) as server, pytest.raises(errors.UnreachableError):
        session_to(server.url).request("PUT", "/a")


def test_connections_are_kept() -> None:
    """Requests in sequence use one connection."""
    with TalkingServer(_always) as server:
        session = session_to(server.url)
        for _ in range(5):
            session.request("GET", "/a").expect(200)
        assert (len(server.requests), server.connections) == (5, 1)


def test_a_request_after_the_end_of_all_connections_opens_a_new_one() -> None:
    """A thread can still have a session that another one has closed."""
    with TalkingServer(_always) as server:
        session = session_to(server.url)
        for _ in range(2):
            assert session.request("GET", "/a").decode(dict) == {"ok": True}
            session.close()
        assert server.connections == 2


def test_a_request_says_who_asks_and_for_what() -> None:
    """Method, quoted path, query, JSON body and Basic credentials arrive, and nothing else identifies the sender."""
    with TalkingServer(_always) as server:
        session_to(server.url).request("PUT", f"/{quoted('a/b+c')}", params={"q": "1 2"}, body={"é": [1]})
        (request,) = server.requests
    assert (request.method, request.path) == ("PUT", "/a%2Fb%2Bc?q=1+2")
    assert request.body == '{"é":[1]}'.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("peruserd/")
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"adm:pass"


def test_credentials_may_be_any_text() -> None:
    """Names and passwords beyond ASCII are sent as UTF-8."""
    with TalkingServer(_always) as server:
        url = server.url.replace("adm:pass", "j%C3%B6:%E2%82%AC%3A%2F")
        session_to(url).request("GET", "/")
        header = server.requests[0].headers["authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "jö:€:/"


def test_nobody_is_somebody() -> None:
    """Without credentials none are sent."""
    with TalkingServer(_always) as server:
        session_to(server.url.replace("adm:pass@", "")).request("GET", "/")
        assert "authorization" not in server.requests[0].headers


def test_the_environment_does_not_reroute_or_reidentify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxy variables and ~/.netrc are ignored."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    with TalkingServer(_always) as server, TalkingServer(_always) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        session_to(server.url).request("GET", "/")
        session_to(server.url.replace("adm:pass@", "")).request("GET", "/")
        assert (server.connections, proxy.connections) == (2, 0)
        named, nobody = server.requests
    assert base64.b64decode(named.headers["authorization"].removeprefix("Basic ")) == b"adm:pass"
    assert "authorization" not in nobody.headers


def test_redirects_are_not_followed() -> None:
    """A redirection is an unexpected answer, and is not followed with the credentials."""

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    with TalkingServer(script) as server:
        found = session_to(server.url).request("GET", "/")
        assert len(server.requests) == 1
    with pytest.raises(errors.UnexpectedAnswerError):
        found.expect(200)


# Statuses


@pytest.mark.parametrize(
    ("status", "body", "expected", "advice"),
    [
        (400, {"error": "illegal_database_name", "reason": "no"}, errors.RejectedError, Advice.ASK_OPERATOR),
        (401, {"error": "unauthorized", "reason": "no"}, errors.UnauthorizedError, Advice.ASK_OPERATOR),
        (403, {"error": "forbidden", "reason": "no"}, errors.ForbiddenError, Advice.ASK_OPERATOR),
        (404, {"error": "not_found", "reason": "deleted"}, errors.NotFoundError, Advice.RETRY),
        (405, {"error": "method_not_allowed", "reason": "no"}, errors.RejectedError, Advice.ASK_OPERATOR),
        (408, b"", errors.ServerError, Advice.RETRY),
        (409, {"error": "conflict", "reason": "late"}, errors.ConflictError, Advice.RETRY),
        (412, {"error": "nodedown", "reason": "n2 is down"}, errors.NodeDownError, Advice.RETRY),
        (412, {"error": "file_exists", "reason": "there"}, errors.RejectedError, Advice.ASK_OPERATOR),
        (429, b"slow down", errors.ServerError, Advice.RETRY),
        (500, {"error": "error", "reason": "no_majority"}, errors.NoMajorityError, Advice.RETRY),
        (500, {"error": "unknown_error", "reason": "badarg"}, errors.ServerError, Advice.RETRY),
        (502, b"<html>bad gateway</html>", errors.GatewayError, Advice.RETRY),
        (503, {"error": "x"}, errors.ServerError, Advice.RETRY),
        (204, b"", errors.UnexpectedAnswerError, Advice.RETRY),
        (304, b"", errors.UnexpectedAnswerError, Advice.RETRY),
    ],
)
def test_a_status_says_what_can_be_done(
    status: int, body: object, expected: type[errors.CouchError], advice: Advice
) -> None:
    """Every unexpected answer is an error whose class and advice follow from status and reason."""
    with TalkingServer(answering({("POST", "/x"): (status, body)})) as server:
        given = session_to(server.url).request("POST", "/x")
    with pytest.raises(errors.CouchError) as caught:
        given.expect(200)
    assert type(caught.value) is expected
    assert caught.value.advice is advice
    assert str(caught.value).startswith(f"POST /x: {status}")
    assert given.expect(200, status) is given


def test_the_reason_of_a_404_is_kept() -> None:
    """The server's reason tells missing from deleted."""
    with pytest.raises(errors.NotFoundError) as caught:
        Answer("GET /x", 404, b'{"error":"not_found","reason":"deleted"}').expect(200)
    assert caught.value.reason == "deleted"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"ok": 1}', b"[true]", b'{"ok": "\xff"}'])
def test_a_body_of_another_shape_is_unexpected(body: bytes) -> None:
    """If a body cannot be decoded, the error names the request and shows the beginning of the body."""
    with pytest.raises(errors.UnexpectedAnswerError, match="GET /x"):
        Answer("GET /x", 200, body).decode(dict[str, bool])


# Time-outs


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_server_that_never_answers_times_out(method: str) -> None:
    """A server that accepts and sends nothing is a time-out, and is asked once."""
    with TalkingServer(_silent) as server:
        with pytest.raises(errors.TimedOutError, match=f"{method} /x"):
            session_to(server.url, read_timeout=SHORT_SECONDS).request(method, "/x")
        assert len(server.requests) == 1


def test_an_answer_that_stops_in_the_middle_times_out() -> None:
    """Headers and half a body followed by silence are a time-out too."""

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(OK[:-3])
        conversation.hold()

    with TalkingServer(script) as server, pytest.raises(errors.TimedOutError):
        session_to(server.url, read_timeout=SHORT_SECONDS).request("GET", "/x")


def test_a_slow_answer_is_an_answer() -> None:
    """An answer that trickles without long silences is read to its end."""
    sent = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        for begin in range(0, len(OK), 8):
            conversation.send(OK[begin : begin + 8])
            sent.wait(0.02)
        conversation.hold()

    with TalkingServer(script) as server:
        assert session_to(server.url, read_timeout=20.0).request("GET", "/x").decode(dict[str, bool]) == {"ok": True}


def test_a_long_poll_is_given_its_time() -> None:
    """The time that a server was asked to wait is added to the time-out."""
    begun = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        begun.wait(3 * SHORT_SECONDS)
        conversation.send(OK)

    with TalkingServer(script) as server:
        session = session_to(server.url, read_timeout=SHORT_SECONDS)
        assert session.request("GET", "/x", wait_seconds=20.0).status == 200


# Connections that break


def test_a_refused_connection_is_unreachable() -> None:
    """If no server listens, the error has the system's text."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(errors.UnreachableError, match="refused"):
        session_to(f"http://adm:pass@127.0.0.1:{port}").request("PUT", "/x")


@pytest.mark.parametrize("kept", [1, len(OK) - 1], ids=["in-the-status", "in-the-body"])
def test_an_answer_cut_short_is_unreachable(kept: int) -> None:
    """An answer that ends in the middle is an error, and whether the server acted is unknown."""

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(OK[:kept])
        conversation.cut()

    with TalkingServer(script) as server, pytest.raises(errors.UnreachableError):
        session_to(server.url).request("PUT", "/x")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_is_made_again_over_a_dropped_connection(method: str) -> None:
    """A read is repeated if the server closes a kept connection just as it is used again."""

    def script(conversation: Conversation) -> None:
        for count, _ in enumerate(conversation.requests()):
            if conversation.number == 1 and count == 1:
                conversation.cut()
                return
            conversation.send(answer(200, b""))

    with TalkingServer(script) as server:
        session = session_to(server.url)
        assert [session.request(method, "/x").status for _ in range(3)] == [200] * 3
        assert server.connections == 2


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_write_is_not_made_again_over_a_dropped_connection(method: str) -> None:
    """The effect of a broken write is unknown, so the caller decides."""

    def script(conversation: Conversation) -> None:
        for count, _ in enumerate(conversation.requests()):
            if count == 1:
                conversation.cut()
                return
            conversation.send(OK)

    with TalkingServer(script) as server:
        session = session_to(server.url)
        session.request(method, "/x")
        with pytest.raises(errors.UnreachableError):
            session.request(method, "/x")
        assert len(server.requests) == 2


def test_a_server_that_always_hangs_up_is_given_up() -> None:
    """Reads are not repeated without end."""

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.cut()

    with TalkingServer(script) as server:
        with pytest.raises(errors.UnreachableError):
            session_to(server.url).request("GET", "/x")
        assert len(server.requests) <= 3


# Interruption


def _interrupted(session: Session, server: TalkingServer, *, wait_seconds: float = 0.0) -> BaseException | None:
    """Interrupt a request that hangs; return the error that it raised."""
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            session.request("GET", "/x", wait_seconds=wait_seconds)
        except BaseException as error:  # noqa: BLE001 - the test looks at this error
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: server.requests, "the request arrived")
    session.interrupt()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    return raised[0] if raised else None


def _begun(conversation: Conversation) -> None:
    conversation.request()
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n")
    conversation.hold()


@pytest.mark.parametrize("script", [_silent, _begun], ids=["silent", "answer-begun"])
@pytest.mark.parametrize("wait_seconds", [0.0, 600.0], ids=["request", "long-poll"])
def test_a_blocked_request_ends_at_once_when_interrupted(
    script: Callable[[Conversation], None], wait_seconds: float
) -> None:
    """Another thread ends a read that would last for minutes, and the error names the interruption."""
    with TalkingServer(script) as server:
        session = session_to(server.url, read_timeout=600.0)
        error = _interrupted(session, server, wait_seconds=wait_seconds)
    assert isinstance(error, errors.InterruptedRequestError)


def test_an_interrupted_session_asks_nothing_more() -> None:
    """After the interruption every request is refused, even on kept connections, and none reaches the server."""
    with TalkingServer(_always) as server:
        session = session_to(server.url, connections=2)
        session.request("GET", "/x")
        session.interrupt()
        for method in ("GET", "PUT"):
            with pytest.raises(errors.InterruptedRequestError):
                session.request(method, "/x")
        assert len(server.requests) == 1


def test_sessions_are_interrupted_one_by_one() -> None:
    """The interruption of a session does not affect other sessions."""
    with TalkingServer(_always) as server:
        one, other = session_to(server.url), session_to(server.url)
        one.interrupt()
        assert other.request("GET", "/x").status == 200


# Secrets


def _all_words(error: BaseException | None) -> str:
    words = []
    while error is not None:
        words += [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(words)


@pytest.mark.parametrize("ending", ["refused", "cut", "silent", "status", "interrupted"])
def test_no_error_shows_the_password(ending: str) -> None:
    """No error and none of its causes has the password or its encoded form."""
    scripts = {"cut": lambda conversation: conversation.request() and conversation.cut(), "silent": _silent}
    script = scripts.get(ending, answering({("PUT", "/x"): (401, {"error": "unauthorized", "reason": "wrong"})}))
    with TalkingServer(script) as server:
        url = server.url.replace("adm:pass", "adm:verysecret")
        session = session_to(url, read_timeout=SHORT_SECONDS)
        if ending == "interrupted":
            session.interrupt()
        if ending == "refused":
            server.__exit__(None, None, None)
        with pytest.raises(errors.CouchError) as caught:
            session.request("PUT", "/x").expect(200)
        words = _all_words(caught.value) + repr(session) + repr(vars(session))
    assert "verysecret" not in words
    assert base64.b64encode(b"adm:verysecret").decode() not in words


# TLS


class Authority:
    """A certificate authority of the tests, and the files that it signed: paths of PEM files."""

    def __init__(self, openssl: str, directory: Path) -> None:
        self._openssl = openssl
        self._directory = directory
        # Since Python 3.13 an authority is trusted only if its own certificate says that it may sign, and each that it
        # signed must say by which key.
        self.certificate, self._key = self._request(
            "ca", "-x509", "-days", "2", "-addext", "keyUsage=critical,keyCertSign,cRLSign"
        )
        self.server = self._signed("server", "subjectAltName=IP:127.0.0.1")
        self.client = self._signed("client", "extendedKeyUsage=clientAuth")

    def _signed(self, name: str, extension: str) -> tuple[str, str]:
        request, key = self._request(name)
        certificate = str(self._directory / f"{name}.crt")
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(f"{extension}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        signing = ["-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", "2"]
        self._run("x509", "-req", "-in", request, *signing, "-extfile", str(extensions), "-out", certificate)
        return certificate, key

    def _request(self, name: str, *more: str) -> tuple[str, str]:
        out, key = str(self._directory / f"{name}.pem"), str(self._directory / f"{name}.key")
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._run("req", *kind, *more, "-subj", f"/CN={name}", "-keyout", key, "-out", out)
        return out, key

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True)

    def context(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """Return the context for a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server)
        if wants_client:
            context.load_verify_locations(self.certificate)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def authority(need_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Keys made for this run."""
    return Authority(need_tool("openssl"), tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(authority: Authority) -> Iterator[TalkingServer]:
    """Run a server whose certificate is signed by that authority."""
    with TalkingServer(_always, authority.context()) as server:
        yield server


def test_a_server_signed_by_the_given_authority_is_trusted(secure: TalkingServer, authority: Authority) -> None:
    """With `ca_file` the server is trusted, and its connection is kept."""
    session = session_to(secure.url, ca_file=authority.certificate)
    assert [session.request("GET", "/x").status for _ in range(2)] == [200, 200]
    assert secure.connections == 1


def test_a_server_signed_by_nobody_known_is_not(secure: TalkingServer) -> None:
    """Without `ca_file` no request is sent to such a server."""
    with pytest.raises(errors.UnreachableError, match=r"TLS to .* failed: .*certificate verify failed"):
        session_to(secure.url).request("GET", "/x")
    assert not secure.requests


@pytest.mark.parametrize("setting", ["ca_file", "client_cert"])
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not-pem"])
def test_tls_files_that_cannot_be_used_are_an_error_of_the_request(
    secure: TalkingServer, authority: Authority, tmp_path: Path, setting: str, content: str | None
) -> None:
    """A missing or wrong file is a failure that is tried again, and ends no listener."""
    path = tmp_path / "some.pem"
    if content is not None:
        path.write_text(content)
    settings: dict[str, Any] = {"ca_file": authority.certificate, setting: str(path)}
    with pytest.raises(errors.UnreachableError):
        session_to(secure.url, **settings).request("GET", "/x")
    assert not secure.requests


def test_an_answer_that_trickles_over_tls_times_out(authority: Authority) -> None:
    """The time of a whole answer is limited there as well."""

    def script(conversation: Conversation) -> None:
        conversation.request()
        for each in OK[:-1].ljust(200) + OK[-1:]:
            conversation.send(bytes([each]))
            conversation.pause(SHORT_SECONDS / 10)

    with TalkingServer(script, authority.context()) as server:
        session = session_to(server.url, ca_file=authority.certificate, read_timeout=SHORT_SECONDS)
        with pytest.raises(errors.TimedOutError, match="did not come to its end"):
            session.request("GET", "/x")


def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path) -> None:
    """A server that asks for a client certificate gets it, from two files or from one."""
    certificate, key = authority.client
    both = tmp_path / "both.pem"
    both.write_text(Path(certificate).read_text() + Path(key).read_text())
    with TalkingServer(_always, authority.context(wants_client=True)) as server:
        trusting = partial(session_to, server.url, ca_file=authority.certificate)
        assert trusting(client_cert=certificate, client_key=key).request("GET", "/x").status
        assert trusting(client_cert=str(both)).request("GET", "/x").status
        with pytest.raises(errors.UnreachableError):
            trusting().request("GET", "/x")


def test_renewed_files_for_tls_count_from_the_next_connection_on(
    authority: Authority, need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Certificates are renewed while the daemon runs. A file that is replaced needs no reload and no restart."""
    other = Authority(need_tool("openssl"), tmp_path)
    files = [tmp_path / name for name in ("in-use.ca", "in-use.crt", "in-use.key")]

    def renew(issuer: Authority) -> None:
        for path, source in zip(files, (issuer.certificate, *issuer.client), strict=True):
            path.with_suffix(".new").write_bytes(Path(source).read_bytes())
            path.with_suffix(".new").replace(path)

    def answer_once(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(OK)

    with TalkingServer(answer_once, authority.context(wants_client=True)) as server:
        ca_file, client_cert, client_key = map(str, files)
        renew(authority)
        session = session_to(server.url, ca_file=ca_file, client_cert=client_cert, client_key=client_key)
        assert session.request("GET", "/x").status == 200
        renew(other)
        with pytest.raises(errors.UnreachableError, match="certificate verify failed"):
            session.request("GET", "/x")
        files[0].write_bytes(Path(authority.certificate).read_bytes())
        with pytest.raises(errors.UnreachableError):
            session.request("GET", "/x")
        renew(authority)
        assert session.request("GET", "/x").status == 200


def test_a_blocked_request_over_tls_ends_when_interrupted(authority: Authority) -> None:
    """Interruption works on encrypted connections too."""
    with TalkingServer(_silent, authority.context()) as server:
        session = session_to(server.url, ca_file=authority.certificate, read_timeout=600.0)
        assert isinstance(_interrupted(session, server, wait_seconds=600.0), errors.InterruptedRequestError)


# Many at once


def test_many_threads_share_a_session() -> None:
    """Each thread gets its own answer, and at most the given number of connections is kept."""

    def script(conversation: Conversation) -> None:
        for request in conversation.requests():
            conversation.send(answer(200, request.path))

    with TalkingServer(script) as server:
        session = session_to(server.url, connections=4)
        wrong: list[str] = []

        def ask(number: int) -> None:
            for count in range(20):
                path = f"/{number}-{count}"
                if session.request("GET", path).decode(str) != path:
                    wrong.append(path)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert server.connections <= 4
        session.close()


def test_a_closed_session_opens_another_connection() -> None:
    """The connections are closed, and the next request is answered over a new one."""
    with TalkingServer(_always) as server:
        session = session_to(server.url)
        for connections in (1, 2):
            assert [session.request("GET", "/x").status for _ in range(2)] == [200, 200]
            assert server.connections == connections
            session.close()


# Requests that wait to be sent


@pytest.mark.parametrize("prompt", [True, False], ids=["prompt", "late"])
@pytest.mark.parametrize("is_refused_first", [False, True], ids=["before-it-is-sent", "after-it-was-refused"])
def test_what_follows_from_what_was_read_is_not_sent_after_a_long_wait(
    monkeypatch: pytest.MonkeyPatch, *, is_refused_first: bool, prompt: bool
) -> None:
    """A database must not be deleted hours after its user's document was confirmed as deleted. Others may be late."""
    monkeypatch.setattr(session_module, "_PROMPT_SECONDS", 0.05)
    first, waiting = Token(1), threading.Event()
    ended: list[int | type[errors.CouchError]] = []

    def shut(_number: int, _node: str | None) -> None:
        tokens.refuse(errors.RefusedError("CouchDB refuses the password"))
        waiting.set()

    def talk(conversation: Conversation) -> None:
        for _ in conversation.requests():
            refusal = answer(401, {"error": "unauthorized", "reason": "no"})
            conversation.send(refusal if tokens.current is first else OK)

    def ask() -> None:
        try:
            ended.append(session.request("DELETE", "/x", prompt=prompt).status)
        except errors.CouchError as error:
            ended.append(type(error))

    tokens = Tokens(first, shut)
    if not is_refused_first:
        shut(0, None)
    with TalkingServer(talk) as server:
        session = Session(settings_of(server.url)[0], tokens, patience_seconds=float("inf"))
        thread = threading.Thread(target=ask)
        thread.start()
        eventually(waiting.is_set, "it waits to be let in")
        thread.join(0.2)
        assert thread.is_alive()
        tokens.admit(Token(2))
        thread.join(PATIENCE_SECONDS)
    assert ended == [errors.RefusedError if prompt else 200]
    assert len(server.requests) == is_refused_first + (not prompt)


# Answers that ask for patience


@pytest.mark.parametrize("status", [413, 429, 503])
def test_an_answer_that_says_when_to_ask_again_is_an_answer(status: int) -> None:
    """The answer goes to the caller, who decides on a pause. The library below does not repeat the request."""

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.send(answer(status, {}).replace(b"Content-Length", b"Retry-After: 0\r\nContent-Length", 1))

    with TalkingServer(script) as server:
        assert session_to(server.url).request("GET", "/x").status == status
        assert len(server.requests) == 1


def test_an_answer_that_says_when_to_ask_again_is_bounded() -> None:
    """The connection to a proxy with such an endless answer is closed."""

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            head = "HTTP/1.1 503 x\r\nRetry-After: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            conversation.send(head.encode())
            while not server.closing.is_set():
                conversation.send(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    with TalkingServer(script) as server, pytest.raises(errors.TooLargeError):
        session_to(server.url).request("GET", "/x", limit_bytes=100_000)
