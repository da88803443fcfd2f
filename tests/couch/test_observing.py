"""Observing many users at once, on a simulated cluster and with servers whose answers are given."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from peruserd.core.audit.diagnosis import Diagnosis, Observation, Rules, Shape, diagnose
from peruserd.core.audit.findings import Finding, Remedy
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.common.nesting import MAX_LEVELS
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState, judge
from peruserd.couch import errors
from peruserd.couch.client import SECURITY_BYTES, Client
from peruserd.couch.observing import DatabasePlaces, Observer, open_observer
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import TalkingServer, answering, connect

NODES = ("node1@127.0.0.1", "node2@127.0.0.1", "node3@127.0.0.1")
FOLLOWED = Copy("_users", Range(0, 0x7FFFFFFF), NODES[0], ".1")
RULES = Rules(DatabasesConfig(), DeletionConfig())


@pytest.fixture
def observer(client: Client) -> Observer:
    """The observer of an instance beside node 1."""
    return open_observer(client, FOLLOWED, "userdb-")


def _ids(*users: str) -> list[str]:
    return [user_document_id(each) for each in users]


def _observed(observer: Observer, document_ids: Sequence[str]) -> list[Observation]:
    return observer.observe(document_ids, lambda each: each)


def _served(cluster: SimClusterThread, count: int) -> list[str]:
    return cluster.seed_users(count, provisioned_prefix="userdb-")


def _findings(seen: list[Observation], rules: Rules = RULES) -> dict[str, set[Finding]]:
    diagnoses = [diagnose(each, rules) for each in seen]
    return {each.user: set(each.findings) for each in diagnoses if each.findings}


def test_many_users_take_few_requests(cluster: SimClusterThread, observer: Observer) -> None:
    """The requests are one for each copy of each range, one for all shard maps, and one for each copy of a database."""
    users = _served(cluster, 40)
    cluster.clear_requests()
    seen = _observed(observer, _ids(*users))
    assert [each.user for each in seen] == users
    assert _findings(seen) == {}
    assert all(len(each.copies or ()) == 3 and each.shape == Shape(1, 3) for each in seen)
    assert {each.user: judge(each.evidence).state for each in seen} == dict.fromkeys(users, DocumentState.LIVE)
    # Two ranges with three copies each, the map of `_users` and those of all databases, and three copies of each.
    assert sum(cluster.requests().values()) == 6 + 2 + 3 * 40


def test_each_user_is_seen_to_before_the_next_ones_objects_are_read(
    cluster: SimClusterThread, observer: Observer
) -> None:
    """Users decide how large their security objects are, so only one user's are in memory at a time."""
    users = _served(cluster, 5)
    cluster.clear_requests()
    read = observer.observe(_ids(*users), lambda _: sum(cluster.requests().values()))
    assert [after - before for before, after in pairwise(read)] == [3] * 4


def test_a_user_without_a_sensible_answer_holds_up_no_other(
    cluster: SimClusterThread, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are observed with smaller requests, and nothing is known of that user."""
    users = _served(cluster, 4)
    bad = database_name("userdb-", users[2])
    find = observer._directory.find

    def find_but_one(names: Sequence[str]) -> Mapping[str, DatabasePlaces]:
        if bad in names:
            raise errors.UnexpectedAnswerError("nonsense")
        return find(names)

    monkeypatch.setattr(observer._directory, "find", find_but_one)
    seen = observer.observe_each(_ids(*users), lambda each: each)
    assert [each.user for each in seen] == users
    assert _findings(seen) == {users[2]: {Finding.UNCONFIRMED}}


def test_each_kind_of_damage_is_found(cluster: SimClusterThread, client: Client, observer: Observer) -> None:
    """Each change by others to a user's database has its own name, and concerns no other user."""
    users = _served(cluster, 8)
    missing, fresh, public, apart, opened, options, deleted, right = users
    for user in (missing, fresh, public, options):
        client.delete_database(database_name("userdb-", user))
    client.create_database(database_name("userdb-", fresh), DatabasesConfig())
    client.create_database(database_name("userdb-", public), DatabasesConfig())
    client.put_security(database_name("userdb-", public), {})
    client.create_database(database_name("userdb-", options), DatabasesConfig(q=4))
    client.put_security(database_name("userdb-", options), security.first(options))
    cluster.set_copy_security(2, database_name("userdb-", apart))
    client.put_security(database_name("userdb-", opened), {"admins": {"names": [opened]}})
    _delete(client, deleted)
    nobody = database_name("userdb-", "nobody")
    client.create_database(nobody, DatabasesConfig())
    seen = _observed(observer, _ids(*users, "nobody", "never"))
    assert _findings(seen) == {
        missing: {Finding.MISSING},
        fresh: {Finding.NOT_NAMED},
        public: {Finding.NOT_NAMED, Finding.PUBLIC},
        apart: {Finding.NOT_NAMED, Finding.PUBLIC, Finding.COPIES_DIFFER},
        opened: {Finding.NOT_NAMED, Finding.PUBLIC},
        options: {Finding.OPTIONS},
        deleted: {Finding.STILL_NAMED},
        "nobody": {Finding.NO_USER},
    }
    assert right not in _findings(seen)


def _delete(client: Client, user: str) -> None:
    path = f"/_users/{user_document_id(user)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200, 202)


def test_a_database_under_the_unpadded_name_is_found(client: Client, observer: Observer) -> None:
    """Only for a user whose name has a byte below 0x10 another database is looked for."""
    client.create_database("userdb-61962", DatabasesConfig())
    (seen,) = _observed(observer, _ids("a\tb"))
    assert (seen.unpadded, seen.copies) == ("userdb-61962", None)


def test_a_copy_that_lost_documents_is_behind(cluster: SimClusterThread, observer: Observer) -> None:
    """The users are live by the other copies, and the node whose copy lacks them is named."""
    users = _served(cluster, 6)
    cluster.forget_documents(2, "_users", _ids(*users[:2]))
    seen = _observed(observer, _ids(*users))
    assert _findings(seen) == {each: {Finding.COPY_BEHIND} for each in users[:2]}
    assert NODES[1] in diagnose(seen[0], RULES).words


def test_a_node_that_is_away_is_silent_and_asked_once(cluster: SimClusterThread, observer: Observer) -> None:
    """Its copies could not be read, so they count as no difference. The node is not asked again for each user."""
    users = _served(cluster, 10)
    cluster.stop_node(3)
    cluster.clear_requests()
    seen = _observed(observer, _ids(*users))
    diagnoses = [diagnose(each, RULES) for each in seen]
    assert {each.findings for each in diagnoses} == {(Finding.COPIES_SILENT,)}
    assert {each.remedy for each in diagnoses} == {Remedy.LATER}
    assert not any(each.differs for each in diagnoses)
    asked = [
        count
        for (_, method, kind), count in cluster.requests().items()
        if (method, "security" in kind) == ("GET", True)
    ]
    assert sum(asked) == 2 * 10 + 1


def test_users_who_can_have_no_database_are_passed_over(cluster: SimClusterThread, observer: Observer) -> None:
    """A design document, an empty name and too long a name belong to no user."""
    cluster.clear_requests()
    assert _observed(observer, ["_design/_auth", "org.couchdb.user:", user_document_id("x" * 200)]) == []
    assert cluster.requests() == {}


def test_an_object_too_large_to_be_read_concerns_its_user_alone(cluster: SimClusterThread, observer: Observer) -> None:
    """The user made it so large. The other users are observed all the same."""
    users = _served(cluster, 2)
    for node in (1, 2, 3):
        large = {**security.first(users[0]), "x": "x" * SECURITY_BYTES}
        cluster.set_copy_security(node, database_name("userdb-", users[0]), large)
    seen = _observed(observer, _ids(*users))
    assert _findings(seen) == {users[0]: {Finding.UNREADABLE}}


@pytest.mark.parametrize("levels", [150, 400])
def test_a_deeply_nested_object_concerns_its_user_alone(
    cluster: SimClusterThread, observer: Observer, levels: int
) -> None:
    """A comparison some calls further down would fail because of the depth, and end the listener each time."""
    users = _served(cluster, 2)
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    for node in (1, 2, 3):
        cluster.set_copy_security(node, database_name("userdb-", users[0]), {**security.first(users[0]), "x": nested})
    diagnoses = observer.observe_each(_ids(*users), lambda each: _further_down(550, lambda: diagnose(each, RULES)))
    unreadable = (Finding.COPIES_SILENT,) if levels > MAX_LEVELS else ()
    assert [each.findings for each in diagnoses] == [unreadable, ()]


def _further_down(calls: int, then: Callable[[], Diagnosis]) -> Diagnosis:
    return then() if calls == 0 else _further_down(calls - 1, then)


ANN = user_document_id("ann")
MAP = {"_id": "userdb-616e6e", "shard_suffix": [46, 49], "by_node": {"n1": ["00000000-ffffffff"]}}
SHARD = "/_node/n1/shards%2F00000000-ffffffff%2F"
ANSWERS: dict[tuple[str, str], tuple[int, object]] = {
    ("GET", "/_node/_local/_dbs/_users"): (200, {"shard_suffix": [46, 49], "by_node": {"n1": ["00000000-ffffffff"]}}),
    ("POST", f"{SHARD}_users.1/_all_docs"): (200, {"rows": [{"key": ANN, "value": {"rev": "1-a"}}]}),
    ("POST", "/_node/_local/_dbs/_all_docs"): (200, {"rows": [{"key": "userdb-616e6e", "doc": MAP}]}),
    ("GET", f"{SHARD}userdb-616e6e.1/_security"): (200, security.first("ann")),
}


def _asked(**changed: tuple[int, object]) -> list[Observation]:
    """Observe one user on a server with the answers above, some of them changed."""
    names = {"maps": 2, "document": 1, "security": 3}
    answers = dict(ANSWERS)
    for name, value in changed.items():
        answers[list(ANSWERS)[names[name]]] = value
    with TalkingServer(answering(answers)) as server:
        followed = Copy("_users", WHOLE_SPACE, "n1", ".1")
        return _observed(open_observer(connect(server.url), followed, "userdb-"), [ANN])


def test_the_answers_are_taken_as_they_should_be() -> None:
    """A user who is served has no findings."""
    assert _findings(_asked()) == {}
    assert _findings(_asked(maps=(200, {"rows": [{"key": "userdb-616e6e", "doc": None}]}))) == {
        "ann": {Finding.MISSING}
    }


@pytest.mark.parametrize(
    "maps",
    [
        (200, {"rows": []}),
        (200, {"rows": [{"key": "somebody-else", "error": "not_found"}]}),
        (200, b"<html>"),
        (200, {"rows": [{"key": "userdb-616e6e", "doc": {"by_node": {"n1": ["nonsense"]}}}]}),
        (500, {"error": "unknown"}),
        (404, {"error": "not_found", "reason": "missing"}),
    ],
    ids=["no-row", "another-row", "html", "no-range", "fault", "no-page"],
)
def test_an_answer_that_is_not_about_the_databases_is_no_missing_one(maps: tuple[int, object]) -> None:
    """The error is raised, so nothing is reported about any user, and the caller tries again."""
    with pytest.raises(errors.CouchError):
        _asked(maps=maps)


def test_a_database_that_goes_meanwhile_is_missing_and_not_silent() -> None:
    """All its copies say that there is no such file. Any other 404 is a proxy's."""
    gone = (404, {"error": "not_found", "reason": "no_db_file"})
    assert _findings(_asked(security=gone)) == {"ann": {Finding.MISSING}}
    nothing = (404, {"error": "not_found", "reason": "nothing here"})
    assert _findings(_asked(security=nothing)) == {"ann": {Finding.COPIES_SILENT}}


def test_a_map_that_names_no_copy_is_no_missing_database() -> None:
    """An edited map can be without copies. By CouchDB the database exists, so to make it would be in vain."""
    maps = (200, {"rows": [{"key": "userdb-616e6e", "doc": {"by_node": {}}}]})
    assert _findings(_asked(maps=maps)) == {"ann": {Finding.COPIES_SILENT}}


@pytest.fixture
def single() -> Iterator[SimClusterThread]:
    """Run one node, and read it like a server without shards."""
    with SimClusterThread(ClusterOptions(nodes=1, n=1)) as running:
        yield running


def test_a_server_without_shards_has_one_copy_of_everything(single: SimClusterThread) -> None:
    """The same kinds of damage are found, except for options, because such a server does not tell them."""
    client = connect(single.urls[0])
    observer = open_observer(client, Copy("_users", WHOLE_SPACE, "server", feed=Feed.DATABASE), "userdb-")
    right, missing, public = single.seed_users(3, provisioned_prefix="userdb-")
    client.delete_database(database_name("userdb-", missing))
    client.put_security(database_name("userdb-", public), {})
    seen = _observed(observer, _ids(right, missing, public))
    assert _findings(seen) == {missing: {Finding.MISSING}, public: {Finding.NOT_NAMED, Finding.PUBLIC}}
    assert all(each.shape is None for each in seen)


@pytest.mark.parametrize("outcome", [400, 403, 409, 413, 500])
def test_a_database_that_cannot_be_asked_for_holds_up_no_other_user(single: SimClusterThread, outcome: int) -> None:
    """The file of one database is damaged, or a proxy does not like its name: its server answers like that for ever."""
    client = connect(single.urls[0])
    observer = open_observer(client, Copy("_users", WHOLE_SPACE, "server", feed=Feed.DATABASE), "userdb-")
    right, damaged, missing = single.seed_users(3, provisioned_prefix="userdb-")
    client.delete_database(database_name("userdb-", missing))
    single.fail(1, outcome, path_regex=database_name("userdb-", damaged))
    seen = observer.observe_each(_ids(right, damaged, missing), lambda each: each)
    assert _findings(seen) == {damaged: {Finding.COPIES_SILENT}, missing: {Finding.MISSING}}


@pytest.mark.parametrize("outcome", [400, 403, 409, 413, 500])
def test_copies_that_cannot_be_read_hold_up_no_other_user(
    cluster: SimClusterThread, observer: Observer, outcome: int
) -> None:
    """A proxy does not like the path of one database's security objects, whatever it says."""
    users = _served(cluster, 3)
    cluster.fail(1, outcome, path_regex=f"{database_name('userdb-', users[1])}.*_security")
    seen = observer.observe_each(_ids(*users), lambda each: each)
    assert _findings(seen) == {users[1]: {Finding.COPIES_SILENT}}
