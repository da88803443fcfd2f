"""Documents of templates in one database: one request each to read and write, and no trust in a proxy's answer."""

import json
from typing import Any

import pytest

from peruserd.core.users.contents import StoredDocument
from peruserd.couch.client import Client
from peruserd.couch.errors import NotFoundError, UnexpectedAnswerError
from peruserd.couch.user_documents import _READ_BYTES, UserDocuments, Written
from tests.couch.connecting import Conversation, TalkingServer, answer, answering, connect

DATABASE = "userdb-61"
PATH = f"/{DATABASE}/_all_docs"
BULK = f"/{DATABASE}/_bulk_docs"


@pytest.fixture
def documents(client: Client) -> UserDocuments:
    """The documents of an existing database."""
    client.session.request("PUT", f"/{DATABASE}", params={"q": "1"}).expect(201)
    return UserDocuments(client.session)


def test_documents_are_written_and_read_again(documents: UserDocuments) -> None:
    """A document that exists fails alone, and the others are written. A deleted document has a revision and no body."""
    assert documents.write(DATABASE, [{"_id": "a", "n": 1}, {"_id": "_design/b"}]) == Written(agreed=True)
    assert documents.write(DATABASE, [{"_id": "a", "n": 2}, {"_id": "c"}]) == Written(agreed=True, conflicts=("a",))
    found = documents.read(DATABASE, ["a", "_design/b", "c", "never"])
    assert found["a"] == StoredDocument(found["a"].rev, {"n": 1})
    assert found["_design/b"].body == {}
    assert found["never"] == StoredDocument()
    documents.write(DATABASE, [{"_id": "a", "_rev": found["a"].rev, "_deleted": True}])
    gone = documents.read(DATABASE, ["a"])["a"]
    assert gone.body is None
    assert gone.rev is not None
    assert documents.write(DATABASE, [{"_id": "a", "_rev": gone.rev}]) == Written(agreed=True, conflicts=("a",))
    assert documents.write(DATABASE, [{"_id": "a", "n": 3}]) == Written(agreed=True)
    assert documents.read(DATABASE, []) == {}


@pytest.mark.parametrize(
    "content",
    ['"' + "x" * (_READ_BYTES + 1) + '"', "[" * 1_500_000 + "]" * 1_500_000, "[" * 200 + "]" * 200, r'"\ud800"'],
    ids=["large", "endless", "nested", "half-a-character"],
)
def test_a_document_that_cannot_be_read_hides_no_other(content: str) -> None:
    """The user made it so. Its revision shows that it exists."""
    asked: list[list[str]] = []

    def row(key: str, *, with_doc: bool) -> str:
        head = f'{{"id": "{key}", "key": "{key}", "value": {{"rev": "1-{key}"}}'
        doc = f', "doc": {{"_id": "{key}", "_rev": "1-{key}", "x": {content if key == "b" else 1}}}'
        return head + (doc if with_doc else "") + "}"

    def script(conversation: Conversation) -> None:
        for request in conversation.requests():
            keys = json.loads(request.body)["keys"]
            asked.append(keys)
            rows = ", ".join(row(key, with_doc="include_docs" in request.path) for key in keys)
            conversation.send(answer(200, f'{{"rows": [{rows}]}}'.encode()))

    with TalkingServer(script) as server:
        found = UserDocuments(connect(server.url).session).read(DATABASE, ["a", "b", "c"])
    assert found == {
        "a": StoredDocument("1-a", {"x": 1}),
        "b": StoredDocument("1-b", beyond=True),
        "c": StoredDocument("1-c", {"x": 1}),
    }
    assert asked == [["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["b"], ["c"]]


def test_a_database_that_is_gone_is_said(client: Client) -> None:
    """Nothing is written into a missing database."""
    with pytest.raises(NotFoundError):
        UserDocuments(client.session).read(DATABASE, ["a"])


A = {"key": "a", "value": {"rev": "1-x"}, "doc": {"_id": "a", "_rev": "1-x"}}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [A, A],
        [{**A, "key": "b"}],
        [{**A, "doc": None}],
        [{**A, "doc": {"_id": "b"}}],
        [{"key": "a"}],
        [{"key": "a", "error": "timeout"}],
        [{"key": "a", "value": None, "doc": None}],
        "rows",
    ],
)
def test_an_answer_about_something_else_is_none(rows: object) -> None:
    """With such an answer a document could be written although it exists, or kept although it is another one."""
    with (
        TalkingServer(answering({("POST", PATH): (200, {"rows": rows})})) as server,
        pytest.raises(UnexpectedAnswerError),
    ):
        UserDocuments(connect(server.url).session).read(DATABASE, ["a"])


@pytest.mark.parametrize("results", [[], [{"id": "b", "ok": True}], {"ok": True}, [{"ok": True}]])
def test_a_write_that_is_not_answered_for_is_none(results: object) -> None:
    """The answer must have each document that was sent."""
    with TalkingServer(answering({("POST", BULK): (201, results)})) as server, pytest.raises(UnexpectedAnswerError):
        UserDocuments(connect(server.url).session).write(DATABASE, [{"_id": "a"}])


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"error": "forbidden", "reason": "no"}, "a: forbidden: no"),
        ({"error": "forbidden", "reason": {"a": 1}}, 'a: forbidden: {"a":1}'),
        (
            {"error": "os_process_error", "reason": "OS process timed out."},
            "a: os_process_error: OS process timed out.",
        ),
        ({"error": "x"}, "a: x: null"),
        ({"error": "e" * 900, "reason": "r" * 900}, f"a: {'e' * 200}: {'r' * 200}"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(result: dict[str, Any], words: str) -> None:
    """A user's own function can return any text, of any length."""
    with TalkingServer(answering({("POST", BULK): (201, [{"id": "a", **result}])})) as server:
        written = UserDocuments(connect(server.url).session).write(DATABASE, [{"_id": "a"}])
    assert written == Written(agreed=True, refusals=(words,))


def test_a_minority_does_not_agree() -> None:
    """CouchDB answers 202, and says that the document is accepted."""
    with TalkingServer(
        answering({("POST", BULK): (202, [{"id": "a", "ok": True, "accepted": True, "rev": "1-x"}])})
    ) as server:
        assert not UserDocuments(connect(server.url).session).write(DATABASE, [{"_id": "a"}]).agreed
