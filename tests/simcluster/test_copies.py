"""One shard copy: its log of changes stays short and right however often documents change."""

from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.revisions import Leaves, edit


def _edited(copy: ShardCopy, document_id: str, *, deleted: bool = False) -> Leaves:
    before = copy.leaves(document_id)
    return edit(before, before[0].rev if before else None, {}, deleted=deleted)


def test_a_log_of_many_edits_is_rewritten_without_losing_its_place() -> None:
    """A reader that goes on from any sequence still sees each newer change once."""
    copy = ShardCopy("node1", "shards/x", WHOLE_SPACE, "00", 0)
    for turn in range(1000):
        copy.merge(f"{turn % 10}", _edited(copy, f"{turn % 10}"))
        since = max(copy.update_seq - 5, 0)
        assert [row[0] for row in copy.rows(since, 100)] == list(range(since + 1, copy.update_seq + 1))
    assert [row[0] for row in copy.rows(0, 100)] == list(range(991, 1001))
    assert [row[0] for row in copy.rows(0, 3)] == [991, 992, 993]


def test_what_is_known_already_is_no_change() -> None:
    """Replication that brings nothing new leaves the sequence alone."""
    copy = ShardCopy("node1", "shards/x", WHOLE_SPACE, "00", 0)
    first = _edited(copy, "a")
    assert copy.merge("a", first)
    second = _edited(copy, "a", deleted=True)
    assert copy.merge("a", second)
    assert not copy.merge("a", first)
    assert (copy.update_seq, copy.doc_count, copy.deleted_count) == (2, 0, 1)


def test_a_watcher_is_called_once() -> None:
    """At the next change; one that was taken back, not at all."""
    copy = ShardCopy("node1", "shards/x", WHOLE_SPACE, "00", 0)
    called: list[str] = []

    def kept() -> None:
        called.append("kept")

    def taken_back() -> None:
        called.append("taken back")

    copy.watch(kept)
    copy.watch(taken_back)
    copy.unwatch(taken_back)
    copy.merge("a", _edited(copy, "a"))
    copy.merge("b", _edited(copy, "b"))
    assert called == ["kept"]
