import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.users.evidence import DocumentState, Evidence, Reading, Winner, judge

A, B, C = "node1", "node2", "node3"
HOSTS = frozenset({A, B, C})
LIVE = Winner("1-a")
DEAD = Winner("2-b", deleted=True)
BACK = Winner("3-c")
HUGE = Winner("999999-z")


def _judge(*readings: Reading) -> DocumentState:
    return judge(Evidence(HOSTS, readings)).state


def _read(node: str, winner: Winner | None, *knows: Winner) -> Reading:
    return Reading(node, winner, frozenset(each.rev for each in knows))


@pytest.mark.parametrize(("followed", "state"), [(C, DocumentState.UNCLEAR), (A, DocumentState.MISSING)])
def test_a_document_is_missing_only_by_the_copy_that_showed_it(followed: str, state: DocumentState) -> None:
    """A user whom one copy alone has heard of is not forgotten because that copy does not answer."""
    verdict = judge(Evidence(HOSTS, (_read(A, None), _read(B, None)), followed))
    assert (verdict.state, verdict.silent) == (state, (C,))


@pytest.mark.parametrize(
    ("readings", "state"),
    [
        pytest.param([_read(A, LIVE), _read(B, LIVE), _read(C, LIVE)], DocumentState.LIVE, id="all-live"),
        pytest.param([_read(A, DEAD), _read(B, DEAD), _read(C, DEAD)], DocumentState.DELETED, id="all-deleted"),
        pytest.param([_read(A, None), _read(B, None)], DocumentState.MISSING, id="never-was"),
        pytest.param([_read(A, DEAD)], DocumentState.UNCLEAR, id="one-of-three"),
        pytest.param([], DocumentState.UNCLEAR, id="nobody"),
        pytest.param([_read(A, LIVE), _read(B, None)], DocumentState.LIVE, id="signed-up-a-moment-ago"),
        pytest.param([_read(A, DEAD, LIVE), _read(B, LIVE), _read(C, LIVE)], DocumentState.DELETED, id="behind"),
        pytest.param([_read(A, LIVE), _read(B, DEAD, LIVE)], DocumentState.DELETED, id="was-away"),
        pytest.param([_read(A, BACK, DEAD), _read(B, DEAD), _read(C, DEAD)], DocumentState.LIVE, id="came-back"),
        pytest.param([_read(A, LIVE), _read(B, DEAD)], DocumentState.UNCLEAR, id="neither-knows-the-other"),
        pytest.param([_read(A, HUGE), _read(B, DEAD, HUGE)], DocumentState.DELETED, id="a-huge-number-is-no-age"),
        pytest.param([_read(A, LIVE, DEAD), _read(B, DEAD, LIVE)], DocumentState.UNCLEAR, id="each-knows-the-other"),
        pytest.param([_read(A, LIVE), _read(B, BACK)], DocumentState.LIVE, id="two-that-are-live"),
    ],
)
def test_what_copies_say_together(readings: list[Reading], state: DocumentState) -> None:
    """A copy that is behind does not count. The remaining copies decide, if a majority of the hosts has answered."""
    assert _judge(*readings) is state


def test_a_copy_that_still_shows_a_deleted_document_live_is_named() -> None:
    """Such a copy can have a second live revision that no other copy has yet. Replication would bring it to all."""
    behind = judge(Evidence(HOSTS, (_read(A, DEAD, LIVE), _read(B, LIVE), _read(C, DEAD, LIVE))))
    assert (behind.state, behind.behind) == (DocumentState.DELETED, (B,))
    agreed = judge(Evidence(HOSTS, (_read(A, DEAD), _read(B, None), _read(C, DEAD))))
    assert (agreed.state, agreed.behind) == (DocumentState.DELETED, ())
    back = judge(Evidence(HOSTS, (_read(A, BACK, DEAD), _read(B, DEAD))))
    assert (back.state, back.behind) == (DocumentState.LIVE, ())


def test_two_copies_of_one_node_are_one_answer() -> None:
    """While a range is split, one node can answer for two copies; it is no majority by itself."""
    assert _judge(_read(A, DEAD), _read(A, DEAD)) is DocumentState.UNCLEAR


def test_the_nodes_that_are_silent_are_named() -> None:
    """The nodes to wait for stand in the verdict, also in an unclear one."""
    assert judge(Evidence(HOSTS, (_read(B, DEAD),))).silent == (A, C)


def test_a_node_that_hosts_nothing_does_not_count() -> None:
    """An answer from a node that the map does not list makes no majority."""
    assert _judge(_read(A, DEAD), _read("stranger", DEAD)) is DocumentState.UNCLEAR


WINNERS = st.sampled_from([LIVE, DEAD, BACK, HUGE, None])


@given(
    readings=st.lists(
        st.builds(
            Reading,
            st.sampled_from([A, B, C]),
            WINNERS,
            st.frozensets(st.sampled_from(["1-a", "2-b", "3-c", "999999-z"])),
        ),
        max_size=5,
    )
)
def test_nothing_is_confirmed_against_an_answer_that_stands(readings: list[Reading]) -> None:
    """A verdict needs the answers of a majority; each answer to the contrary is some other copy's past."""
    verdict = judge(Evidence(HOSTS, tuple(readings)))
    if verdict.state in (DocumentState.LIVE, DocumentState.DELETED):
        assert len({each.node for each in readings}) >= 2
        deleted = verdict.state is DocumentState.DELETED
        for each in readings:
            if each.winner is not None and each.winner.deleted != deleted:
                assert any(other.winner != each.winner and each.winner.rev in other.knows for other in readings)
