"""The cluster's state without sockets: whatever happens to it, nodes that see each other agree in the end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from peruserd.core.ownership.hashing import document_hash
from peruserd.simcluster.events.splits import Splitter, rebuild
from peruserd.simcluster.model import documents, errors
from peruserd.simcluster.model.changes import DatabaseFeed
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import DEFAULT_SECURITY
from peruserd.simcluster.options import ClusterOptions
from tests.quick import examples

NUMBERS = st.integers(1, 3)
IDS = st.integers(0, 12).map("document {}".format)


def a_model(*, replication_delay_seconds: float = 0.0) -> ClusterModel:
    """A cluster of three nodes with one database, `db`, at a moment that stands still."""
    model = ClusterModel(ClusterOptions(replication_delay_seconds=replication_delay_seconds), lambda: 1_800_000_000.0)
    model.create_database(model.nodes[0], "db", q=2, n=3)
    return model


def newest(model: ClusterModel) -> list[dict[str, str]]:
    """Each node's documents of `db` with their winners."""
    return [
        {
            document_id: leaves[0].rev
            for copy in node.holdings.get("db", ())
            for document_id, (_, leaves) in copy.docs.items()
        }
        for node in model.nodes
    ]


class Life(RuleBasedStateMachine):
    """Random writes, deletions, splits, partitions and deaths; then all comes back."""

    @initialize(delayed=st.booleans())
    def begin(self, delayed: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """Begin with everybody there."""
        self.model = a_model()
        self.model.delayed = delayed
        self.splitter = Splitter(self.model)
        # Every document that a node accepted: none may be lost.
        self.written: set[str] = set()

    @rule(number=NUMBERS, document_id=IDS, deleted=st.booleans(), value=st.integers(0, 3))
    def write(self, number: int, document_id: str, deleted: bool, value: int) -> None:  # noqa: FBT001
        """Edit or delete a document through any live node."""
        node = self.model.node(number)
        if not node.alive:
            return
        before = documents.read(self.model, node, "db", document_id)
        rev = before[0].rev if before else None
        documents.write(self.model, node, "db", document_id, rev, {"value": value}, deleted=deleted)
        self.written.add(document_id)

    @rule(groups=st.sampled_from([[], [[1], [2, 3]], [[1, 2], [3]], [[1], [2], [3]]]))
    def partition(self, groups: list[list[int]]) -> None:
        """Let some nodes not see each other."""
        self.model.partition(groups)

    @rule(number=NUMBERS)
    def stop_or_start(self, number: int) -> None:
        """Kill a node, or bring it back."""
        node = self.model.node(number)
        self.model.set_alive(node, alive=not node.alive)

    @rule()
    def replicate(self) -> None:
        """Let the delay pass."""
        self.model.replicate()

    @rule(number=NUMBERS, turn=st.integers(0, 7))
    def split(self, number: int, turn: int) -> None:
        """One node splits one of its copies, which stays for now; the others keep theirs whole."""
        node = self.model.node(number)
        ranges = sorted(copy.range for copy in node.holdings["db"])
        covered = ranges[turn % len(ranges)]
        if node.alive and covered.end - covered.begin > 1 << 28:
            for job in self.splitter.start(node, "db", str(covered), node.name):
                assert self.splitter.run(job)
                assert job.source in node.shards

    @rule()
    def remove_what_was_split(self) -> None:
        """The jobs whose node is up come to their end."""
        for job in self.splitter.waiting():
            node = self.model.by_name[job.node]
            assert self.splitter.run(job) == node.alive
            assert (job.source in node.shards) != node.alive

    @rule(number=NUMBERS, turn=st.integers(0, 7))
    def rebuild(self, number: int, turn: int) -> None:
        """Make a copy again from scratch."""
        node = self.model.node(number)
        copies = node.holdings["db"]
        if node.alive:
            rebuild(self.model, node, "db", str(copies[turn % len(copies)].range))

    @invariant()
    def each_document_is_in_one_copy_of_each_node(self) -> None:
        """No row is listed twice or out of order, and none is in a copy of another range."""
        for node in self.model.nodes:
            for copy in node.holdings["db"]:
                assert all(document_hash(document_id) in copy.range for document_id in copy.docs)
                rows = copy.rows(0, 1000)
                assert [row[1] for row in rows] == list(dict.fromkeys(row[1] for row in rows))
                assert [row[0] for row in rows] == sorted({row[0] for row in rows})
                assert len(rows) == len(copy.docs) == copy.pending(0)
                assert copy.deleted_count == sum(row[2][0].deleted for row in rows)

    def teardown(self) -> None:
        """Once all is well again, all nodes hold the same, and nothing that was accepted is missing."""
        for node in self.model.nodes:
            self.model.set_alive(node, alive=True)
        self.model.partition([])
        self.model.replicate()
        assert not self.model.has_backlog()
        first, *others = newest(self.model)
        assert others == [first, first]
        assert set(first) == self.written
        assert len({id(node.maps["db"]) for node in self.model.nodes}) == 1
        for node in self.model.nodes:
            feed = DatabaseFeed(self.model, node, "db", "0")
            listed = [row.id for row in feed.page(1000, include_docs=False).results]
            assert sorted(listed) == sorted(self.written)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)


def test_a_write_in_the_minority_is_accepted_and_spreads() -> None:
    """202 in the minority, and everywhere after the partition."""
    model = a_model()
    model.partition([[1], [2, 3]])
    rev, agreed = documents.write(model, model.nodes[0], "db", "x", None, {})
    assert not agreed
    assert documents.read(model, model.nodes[1], "db", "x") is None
    model.partition([])
    model.replicate()
    assert [each["x"] for each in newest(model)] == [rev] * 3


def test_copies_number_the_same_changes_differently() -> None:
    """A node that was away numbers what it missed as it arrives."""
    model = a_model()
    model.set_alive(model.nodes[2], alive=False)
    for number in range(50):
        documents.write(model, model.nodes[0], "db", f"{number}", None, {})
    model.set_alive(model.nodes[2], alive=True)
    model.replicate()
    one, _, three = ([row[1] for row in node.holdings["db"][0].rows(0, 100)] for node in model.nodes)
    assert sorted(one) == sorted(three)
    assert one != three


def test_delayed_replication_reaches_other_copies_later() -> None:
    """With a delay only the copy of the node that was asked has a write at once; reads see it from anywhere."""
    told: list[bool] = []
    model = a_model(replication_delay_seconds=1.0)
    model.on_backlog = lambda: told.append(model.has_backlog())
    rev, agreed = documents.write(model, model.nodes[1], "db", "x", None, {})
    assert agreed
    assert ["x" in each for each in newest(model)] == [False, True, False]
    leaves = documents.read(model, model.nodes[0], "db", "x")
    assert leaves is not None
    assert leaves[0].rev == rev
    assert told[-1]
    model.replicate()
    assert all("x" in each for each in newest(model))


def test_a_security_object_without_a_majority_is_undone_when_the_nodes_meet() -> None:
    """It changes what it reaches, so the copies disagree; what most copies have wins in the end."""
    model = a_model()
    first = model.nodes[0]
    model.partition([[1], [2, 3]])
    with pytest.raises(errors.RefusalError, match="no_majority"):
        documents.write_security(model, first, "db", {"admins": {"names": ["u"]}})
    objects = [copy.security for node in model.nodes for copy in node.holdings["db"]]
    assert objects.count({"admins": {"names": ["u"]}}) == 2
    model.partition([])
    model.replicate()
    assert all(copy.security == DEFAULT_SECURITY for node in model.nodes for copy in node.holdings["db"])


def test_a_security_object_with_a_majority_reaches_who_was_away() -> None:
    """A node that returns gets the object of the others, whatever it had or made meanwhile."""
    model = a_model()
    model.set_alive(model.nodes[2], alive=False)
    documents.write_security(model, model.nodes[0], "db", {"admins": {"names": ["u"]}})
    model.set_alive(model.nodes[2], alive=True)
    assert model.has_backlog()
    model.replicate()
    assert all(copy.security == {"admins": {"names": ["u"]}} for node in model.nodes for copy in node.holdings["db"])
    assert not model.has_backlog()


def test_two_security_objects_without_a_majority_stay_apart() -> None:
    """With two copies there is no majority of one; only a write brings them together."""
    model = ClusterModel(ClusterOptions(), lambda: 1_800_000_000.0)
    model.create_database(model.nodes[0], "db", q=1, n=2)
    first, second = (node for node in model.nodes if node.holdings.get("db"))
    model.partition([[first.number], [second.number]])
    with pytest.raises(errors.RefusalError, match="no_majority"):
        documents.write_security(model, first, "db", {"admins": {"names": ["u"]}})
    model.partition([])
    model.replicate()
    assert [node.holdings["db"][0].security for node in (first, second)] == [
        {"admins": {"names": ["u"]}},
        DEFAULT_SECURITY,
    ]
    documents.write_security(model, first, "db", {"admins": {"names": ["v"]}})
    assert first.holdings["db"][0].security == second.holdings["db"][0].security


@pytest.mark.parametrize("wrong", [[], {"admins": []}, {"members": {"names": "u"}}, {"admins": {"roles": [1]}}])
def test_a_malformed_security_object_is_no_majority(wrong: object) -> None:
    """CouchDB says so of an object none of its copies accepts."""
    model = a_model()
    with pytest.raises(errors.RefusalError, match="no_majority"):
        documents.write_security(model, model.nodes[0], "db", wrong)


def test_local_documents_flip_after_a_node_was_away() -> None:
    """They are not replicated, and a read takes whichever copy answers."""
    model = a_model()
    first = model.nodes[0]
    documents.write_local(model, first, "db", "_local/beat", None, {"beat": 2})
    model.set_alive(model.nodes[2], alive=False)
    documents.write_local(model, first, "db", "_local/beat", None, {"beat": 6})
    model.set_alive(model.nodes[2], alive=True)
    model.replicate()
    read = {documents.read_local(model, first, "db", "_local/beat").body["beat"] for _ in range(100)}
    assert read == {2, 6}
    listed = {documents.list_local(model, first, "db")[0][1].body["beat"] for _ in range(100)}
    assert listed == {2, 6}


def test_a_database_deleted_in_the_minority_is_gone_everywhere_later() -> None:
    """A node that was away learns of the deletion, and one made anew elsewhere does not bring the old one back."""
    model = a_model()
    model.partition([[1], [2, 3]])
    documents.write(model, model.nodes[1], "db", "x", None, {})
    assert not model.delete_database(model.nodes[0], "db")
    assert model.create_database(model.nodes[1], "other", q=1, n=3)
    model.partition([])
    model.replicate()
    assert [node.names for node in model.nodes] == [["other"]] * 3
    assert all(set(node.holdings) == {"other"} for node in model.nodes)


def test_a_database_made_again_has_another_suffix() -> None:
    """Even within the same second, so that nobody takes its shards for the old ones."""
    model = a_model()
    first = model.nodes[0]
    before = set(first.shards)
    model.delete_database(first, "db")
    model.create_database(first, "db", q=2, n=3)
    assert not before & set(first.shards)


def test_fewer_copies_than_nodes_still_cover_everything() -> None:
    """Any node can list a database of which it holds nothing."""
    model = a_model()
    model.create_database(model.nodes[0], "few", q=3, n=1)
    for number in range(30):
        documents.write(model, model.nodes[number % 3], "few", f"{number}", None, {})
    for node in model.nodes:
        assert sum(copy.doc_count for copy in model.covering(node, "few")) == 30
    model.set_alive(model.nodes[2], alive=False)
    with pytest.raises(errors.RefusalError, match="progress not possible"):
        model.covering(model.nodes[0], "few")


@given(st.lists(IDS, max_size=60), st.integers(1, 7), st.booleans())
@settings(max_examples=50, deadline=None)
def test_paging_through_a_feed_lists_each_document_once(ids: list[str], limit: int, split: bool) -> None:  # noqa: FBT001
    """In pages of any size, from one opaque sequence to the next, also when a range is split on the way."""
    model = a_model()
    first = model.nodes[0]
    for document_id in ids:
        before = documents.read(model, first, "db", document_id)
        documents.write(model, first, "db", document_id, before[0].rev if before else None, {})
    since, listed = "0", []
    while True:
        page = DatabaseFeed(model, first, "db", since).page(limit, include_docs=False)
        listed += [row.id for row in page.results]
        since = str(page.last_seq)
        if not page.results:
            break
        if split:
            split = False
            splitter = Splitter(model)
            for job in splitter.start(first, "db", "00000000-7fffffff", None):
                splitter.run(job)
    assert sorted(listed) == sorted(set(ids))
    assert page.pending == 0
