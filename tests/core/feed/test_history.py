from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from peruserd.core.feed import history
from peruserd.core.feed.rows import Leaf, Row

MOST = 60


def _row(seq: int | str, name: str | None = None) -> Row:
    return Row(seq, name or f"user-{seq}", changes=(Leaf(f"1-{seq}"),))


def _sequences(rows: tuple[Row, ...]) -> list[int | str]:
    return [row.seq for row in rows]


def test_few_rows_are_all_remembered() -> None:
    """A restored copy usually lacks only the newest rows."""
    first = history.noted((), [_row(1), _row(2)])
    assert _sequences(history.noted(first, [_row(3)])) == [1, 2, 3]


@given(pages=st.lists(st.integers(1, 300), min_size=1, max_size=60))
@example(pages=[1] * 7 + [2, 300, 300, 300, 300, 97, 1, 1, 31, 110, 300, 300, 257, 30, 297, 1, 57, 255, 56])
def test_rows_of_all_ages_are_remembered_and_not_many(pages: list[int]) -> None:
    """The newest eight rows are remembered, and at least one of each age that is twice another."""
    known: tuple[Row, ...] = ()
    newest = 0
    for size in pages:
        known = history.noted(known, [_row(newest + number) for number in range(1, size + 1)])
        newest += size
    sequences = [int(each) for each in _sequences(known)]
    assert sequences == sorted(set(sequences))
    assert len(sequences) <= MOST
    assert set(range(max(1, newest - 7), newest + 1)) <= set(sequences)
    distance = 8
    while distance * 4 < newest:
        assert any(distance <= newest - each <= distance * 4 for each in sequences), (newest, distance, sequences)
        distance *= 2


@given(rows=st.lists(st.tuples(st.integers(1, 5_000), st.booleans()), min_size=1, max_size=200))
def test_a_row_is_left_out_only_if_an_older_one_is_near_enough(rows: list[tuple[int, bool]]) -> None:
    """Sequences have gaps, and deleted documents prove nothing, so the choice is made among the other rows."""
    seq = 0
    page = []
    for step, deleted in rows:
        seq += step
        page.append(Row(seq, f"user-{seq}", deleted, (Leaf("1-a"),)))
    able = [seq - int(row.seq) for row in reversed(page) if not row.deleted or row is page[-1]]
    kept = [seq - int(each) for each in reversed(_sequences(history.noted((), page)))]
    assert kept[:8] == able[:8]
    assert set(kept) <= set(able)
    assert kept[-1] == able[-1]
    for nearer, farther in pairwise(kept[7:]):
        assert farther <= 4 * nearer or able.index(farther) == able.index(nearer) + 1


def test_a_document_that_moved_on_is_remembered_by_its_newest_row() -> None:
    """The earlier row is no part of the feed any more, and a document can change as often as it likes."""
    known = history.noted((), [_row(1, "ann"), _row(2, "bob")])
    assert _sequences(history.noted(known, [_row(3, "ann")])) == [2, 3]


def test_rows_that_are_too_long_are_not_remembered() -> None:
    """Writers choose ids, and can make them megabytes long."""
    assert history.noted((), [_row(1, "x" * 100_000), _row(2)]) == (_row(2),)
    assert history.noted((), [_row(1, "x" * 100_000)]) == ()


def test_of_sequences_that_cannot_be_compared_the_newest_row_is_remembered() -> None:
    """The clustered feed has such sequences, and only its own server can order them."""
    known = history.noted((), [_row("1-a"), _row("2-b")])
    assert known == (_row("2-b"),)
    assert history.finished(known, "2-b") == ()


def test_rows_behind_a_checkpoint_do_not_prove_it() -> None:
    """A row that is not finished yet may be lost without harm."""
    known = history.noted((), [_row(1), _row(2), _row(3)])
    assert _sequences(history.finished(known, 2)) == [1, 2]


def test_a_deleted_document_proves_a_history_only_as_the_newest() -> None:
    """Operators purge the documents of deleted users, and then such a row is gone in the same history."""
    gone = Row(2, "ann", deleted=True, changes=(Leaf("2-a"),))
    newest = Row(4, "bob", deleted=True, changes=(Leaf("2-b"),))
    known = history.noted((), [_row(1), gone, _row(3), newest])
    assert _sequences(known) == [1, 3, 4]
    assert _sequences(history.noted(known, [_row(5)])) == [1, 3, 5]


def test_two_documents_under_one_id_leave_the_rows_in_their_order() -> None:
    """CouchDB shows ids that are not valid UTF-8 as valid ones, so a page can have two rows of one id."""
    known = history.noted((), [_row(1, "ann"), _row(2, "bob"), _row(3, "ann")])
    assert _sequences(known) == [2, 3]
