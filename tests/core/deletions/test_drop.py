from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peruserd.core.deletions.drop import (
    Breaker,
    Drop,
    End,
    Hosts,
    Known,
    Reason,
    Redate,
    Wait,
    clocks_say,
    decide,
    forbids,
)
from peruserd.core.deletions.journal import UNREADABLE, Ending, Entry, Kind, Pause, PauseReason, Saying, Word
from peruserd.core.users.evidence import DocumentState, Verdict

REVISION = "3-" + "ab" * 16
OTHER_REVISION = "9-" + "cd" * 16
NOTED, DUE, NOW = 1_700_000_500.0, 1_700_100_000.0, 1_700_100_001.0
SUFFIX = ".1700000000"
ENTRY = Entry(
    document="org.couchdb.user:ann",
    database="userdb-616e6e",
    suffix=SUFFIX,
    revision=REVISION,
    noted_at=NOTED,
    due_at=DUE,
)
RETURN = msgspec.structs.replace(ENTRY, kind=Kind.RETURN, revision="")
ALL = frozenset({"a", "b", "c"})
GOOD = Known(
    prefix="userdb-",
    saying=Saying(),
    pause=Pause(),
    now=NOW,
    dates={"a": NOW, "b": NOW + 3},
    nodes=3,
    is_owner=True,
    document=Verdict(DocumentState.DELETED, REVISION),
    suffixes=frozenset({SUFFIX}),
    hosts=(Hosts(ALL, frozenset({"a", "b"})), Hosts(ALL, ALL)),
    is_blank=False,
    breaker=Breaker(0, 10),
)


def knowing(**fields: Any) -> Known:
    """Return facts that allow a drop, except for these changes."""
    return msgspec.structs.replace(GOOD, **fields)


def test_it_is_dropped_when_nothing_stands_in_the_way() -> None:
    """A deletion that is confirmed, due and alone is carried out."""
    assert decide(ENTRY, GOOD) == Drop()


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        pytest.param({"is_owner": False}, Reason.NOT_OWNER, id="another-instance-owns-it"),
        pytest.param({"saying": Saying(Word.HOLD)}, Reason.HELD, id="held"),
        pytest.param({"document": Verdict(DocumentState.UNCLEAR)}, Reason.DOCUMENT_UNCLEAR, id="unclear"),
        pytest.param({"document": Verdict(DocumentState.MISSING)}, Reason.DOCUMENT_MISSING, id="missing"),
        pytest.param({"document": Verdict(DocumentState.DELETED)}, Reason.DOCUMENT_MISSING, id="no-revision"),
        pytest.param(
            {"document": Verdict(DocumentState.DELETED, REVISION, behind=("b",))},
            Reason.DOCUMENT_UNCLEAR,
            id="one-copy-still-shows-it-live",
        ),
        pytest.param({"prefix": "user-"}, Reason.NOT_THE_USERS, id="another-prefix"),
        pytest.param({"suffixes": frozenset({SUFFIX, None})}, Reason.DATABASE_UNCLEAR, id="one-node-knows-none"),
        pytest.param({"suffixes": frozenset({SUFFIX, ".9"})}, Reason.DATABASE_UNCLEAR, id="two-databases"),
        pytest.param({"suffixes": frozenset()}, Reason.DATABASE_UNCLEAR, id="nobody-answered"),
        pytest.param({"pause": Pause(paused=True)}, Reason.PAUSED, id="paused"),
        pytest.param({"pause": UNREADABLE}, Reason.PAUSE_UNREADABLE, id="pause-unreadable"),
        pytest.param(
            {"pause": UNREADABLE, "saying": Saying(Word.DROP_NOW, resumed=True)},
            Reason.PAUSE_UNREADABLE,
            id="pause-unreadable-whatever-is-said",
        ),
        pytest.param(
            {"pause": Pause(paused=True, why=PauseReason.BREAKER)}, Reason.BREAKER, id="stopped-by-the-breaker"
        ),
        pytest.param(
            {"pause": Pause(paused=True), "saying": Saying(Word.DROP_NOW)}, Reason.PAUSED, id="drop-now-paused"
        ),
        pytest.param({"now": DUE - 1}, Reason.NOT_DUE, id="not-by-our-clock"),
        pytest.param({"dates": {"a": DUE - 1, "b": DUE + 9}}, Reason.NOT_DUE, id="not-by-the-earlier-node"),
        pytest.param({"dates": {"a": NOW}}, Reason.CLOCKS, id="one-clock-of-three"),
        pytest.param({"dates": {}}, Reason.CLOCKS, id="no-clock"),
        pytest.param({"dates": {}, "nodes": 1}, Reason.CLOCKS, id="no-clock-of-one"),
        pytest.param({"dates": {"a": NOW, "b": NOW + 61}}, Reason.CLOCKS, id="clocks-apart"),
        pytest.param({"hosts": ()}, Reason.HOSTS_AWAY, id="no-hosts-known"),
        pytest.param(
            {"hosts": (Hosts(ALL, ALL), Hosts(ALL, frozenset({"a"})))}, Reason.HOSTS_AWAY, id="hosts-of-one-away"
        ),
        pytest.param(
            {"hosts": (Hosts(frozenset({"a", "b"}), frozenset({"a", "x", "y"})),)}, Reason.HOSTS_AWAY, id="half-is-none"
        ),
        pytest.param({"breaker": Breaker(10, 10)}, Reason.BREAKER, id="breaker"),
        pytest.param(
            {"breaker": Breaker(10, 10), "saying": Saying(Word.DROP_NOW)}, Reason.BREAKER, id="breaker-drop-now"
        ),
    ],
)
def test_whatever_is_not_certain_makes_it_wait(known: dict[str, Any], reason: Reason) -> None:
    """Each condition that does not hold, alone, keeps the database."""
    decision = decide(ENTRY, knowing(**known))
    assert isinstance(decision, Wait)
    assert decision.reason is reason


@pytest.mark.parametrize(
    ("known", "ending"),
    [
        pytest.param({"saying": Saying(Word.CANCEL)}, Ending.CANCELLED, id="cancelled"),
        pytest.param({"document": Verdict(DocumentState.LIVE, "1-a")}, Ending.RETURNED, id="live"),
        pytest.param({"document": Verdict(DocumentState.DELETED, OTHER_REVISION)}, Ending.SUPERSEDED, id="anew"),
        pytest.param({"suffixes": frozenset({None})}, Ending.GONE, id="no-database"),
        pytest.param({"suffixes": frozenset({".1700050000"})}, Ending.OTHER_DATABASE, id="another-database"),
    ],
)
def test_what_is_certain_ends_it_without_a_drop(known: dict[str, Any], ending: Ending) -> None:
    """An entry ends if the user is back, by a word of the operator, or if there is another database of that name."""
    assert decide(ENTRY, knowing(**known)) == End(ending)


@pytest.mark.parametrize("document", ["org.couchdb.user:eve", "org.couchdb.user:", "_design/ann", "ann"])
@pytest.mark.parametrize("kind", Kind)
def test_a_database_is_never_dropped_for_another_users_document(kind: Kind, document: str) -> None:
    """An entry can be forged by anybody who could write to the journal for a moment: it must not name a victim."""
    forged = msgspec.structs.replace(ENTRY, kind=kind, document=document)
    state = DocumentState.DELETED if kind is Kind.DELETION else DocumentState.LIVE
    known = knowing(document=Verdict(state, REVISION), saying=Saying(Word.DROP_NOW, resumed=True))
    assert decide(forged, known) == Wait(Reason.NOT_THE_USERS)


def test_an_entry_that_ended_stays_so() -> None:
    """Nothing opens an entry again here."""
    assert decide(ENTRY.ended(Ending.GONE, NOW), GOOD) == End(Ending.GONE)


def test_the_number_of_a_revision_means_nothing() -> None:
    """A tombstone with a number as high as can be is another deletion, neither a newer nor an older one."""
    for revision in ("999999-" + "ef" * 16, "1-" + "00" * 16):
        assert decide(ENTRY, knowing(document=Verdict(DocumentState.DELETED, revision))) == End(Ending.SUPERSEDED)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param({"now": NOTED, "dates": {}, "saying": Saying(Word.DROP_NOW)}, id="drop-now-is-not-waited-for"),
        pytest.param({"breaker": Breaker(99, 10), "is_blank": True}, id="a-blank-database-does-not-count"),
        pytest.param({"breaker": Breaker(99, 10), "saying": Saying(resumed=True)}, id="resumed-by-name"),
        pytest.param({"pause": Pause(paused=True), "saying": Saying(resumed=True)}, id="passes-the-pause"),
        pytest.param({"dates": {"a": NOW}, "nodes": 1}, id="a-cluster-of-one-has-one-clock"),
        pytest.param({"dates": {"a": 0.0, "b": NOW, "c": NOW}}, id="one-clock-of-three-is-wrong"),
        pytest.param({"suffixes": frozenset({".1700000003"})}, id="the-map-that-won"),
    ],
)
def test_what_need_not_be_waited_for(known: dict[str, Any]) -> None:
    """The operator's leave, a blank database and a single wrong clock keep nothing."""
    assert decide(ENTRY, knowing(**known)) == Drop()


def test_an_entry_noted_by_a_clock_that_was_ahead_gets_another_date() -> None:
    """Ours and those of the nodes must both say so, and it is looked at for that before it is due."""
    ahead = msgspec.structs.replace(ENTRY, noted_at=NOW + 1e8, due_at=NOW + 2e8)
    assert forbids(ahead, Saying(), Pause(), NOW) is None
    assert decide(ahead, GOOD) == Redate(NOW)
    assert decide(ahead, knowing(dates={"a": NOW + 1e8, "b": NOW + 1e8})) == Wait(Reason.NOT_DUE, ahead.due_at)
    assert decide(ahead, knowing(dates={})) == Wait(Reason.NOT_DUE, ahead.due_at)
    assert decide(ahead, knowing(now=NOW + 1e8)) == Wait(Reason.NOT_DUE, ahead.due_at)


def test_without_a_grace_period_no_clock_is_asked() -> None:
    """A deletion that is due when it is noted waits for nothing but its confirmation."""
    at_once = msgspec.structs.replace(ENTRY, due_at=NOTED)
    assert decide(at_once, knowing(now=NOTED, dates={})) == Drop()


def test_a_server_whose_clock_is_late_is_asked_again_in_time() -> None:
    """The next look is when that clock will reach the date, converted to this machine's clock."""
    late = DUE - 500
    assert decide(ENTRY, knowing(dates={"a": late, "b": late + 1})) == Wait(Reason.NOT_DUE, NOW + 500)


# A user who came back


def test_a_database_is_kept_shut_until_the_operator_says_something() -> None:
    """A return waits; `release` lets the user in, `drop-now` drops what was left there."""
    live = knowing(document=Verdict(DocumentState.LIVE, "4-a"))
    assert decide(RETURN, live) == Wait(Reason.HELD)
    released = msgspec.structs.replace(live, saying=Saying(Word.RELEASE))
    assert decide(RETURN, released) == End(Ending.RELEASED)
    assert decide(RETURN, msgspec.structs.replace(live, saying=Saying(Word.DROP_NOW))) == Drop()


def test_what_was_left_is_dropped_only_for_a_user_who_is_there() -> None:
    """A user who was deleted once more has a new entry, so the old entry ends."""
    assert decide(RETURN, knowing(saying=Saying(Word.DROP_NOW))) == End(Ending.SUPERSEDED)


def test_a_deletion_is_not_released() -> None:
    """The word `release` only concerns returns, and has no effect on a deletion."""
    assert decide(ENTRY, knowing(saying=Saying(Word.RELEASE), now=NOTED)) == Wait(Reason.NOT_DUE, DUE)


# Looks that are spared


@pytest.mark.parametrize(
    ("saying", "pause", "now", "expected"),
    [
        (Saying(), Pause(), NOW, None),
        (Saying(), Pause(), NOTED, Wait(Reason.NOT_DUE, DUE)),
        (Saying(Word.DROP_NOW), Pause(), NOTED, None),
        (Saying(Word.HOLD), Pause(), NOW, Wait(Reason.HELD)),
        (Saying(Word.CANCEL), Pause(paused=True), NOTED, None),
        (Saying(), Pause(paused=True), NOW, Wait(Reason.PAUSED)),
        (Saying(resumed=True), Pause(paused=True), NOW, None),
    ],
)
def test_what_waits_by_itself_is_not_looked_at(saying: Saying, pause: Pause, now: float, expected: Wait | None) -> None:
    """A word, a pause or the date keep an entry from costing a request; a cancellation is seen to at once."""
    assert forbids(ENTRY, saying, pause, now) == expected


def test_a_release_is_looked_at_during_a_pause() -> None:
    """A pause only stops drops, so a returning user is still admitted. `release` has no effect on a deletion."""
    pause = Pause(paused=True)
    assert forbids(RETURN, Saying(Word.RELEASE), pause, NOW) is None
    assert forbids(ENTRY, Saying(Word.RELEASE), pause, NOW) == Wait(Reason.PAUSED)


# Clocks


@pytest.mark.parametrize(
    ("dates", "nodes", "time"),
    [
        ({}, 3, None),
        ({"a": 5.0}, 3, None),
        ({"a": 5.0}, 1, 5.0),
        ({"a": 5.0, "b": 65.0}, 2, 5.0),
        ({"a": 5.0, "b": 65.1}, 2, None),
        ({"a": 1.0, "b": 900.0, "c": 905.0}, 3, 900.0),
    ],
)
def test_two_nodes_that_agree_say_what_time_it_is(dates: dict[str, float], nodes: int, time: float | None) -> None:
    """The earlier of two clocks that agree within a minute counts. One clock counts only in a cluster of one node."""
    assert clocks_say(dates, nodes) == time


# All of it

_MOMENTS = st.sampled_from([NOTED, DUE - 1, DUE, NOW, NOW + 61, 0.0])
_HOSTS = st.builds(Hosts, st.frozensets(st.sampled_from("abc")), st.frozensets(st.sampled_from("abcd")))
_KNOWN = st.builds(
    Known,
    prefix=st.sampled_from(["userdb-", "userdb-61"]),
    saying=st.builds(Saying, st.sampled_from(Word), st.booleans()),
    pause=st.builds(Pause, st.booleans(), st.sampled_from(PauseReason)),
    now=_MOMENTS,
    dates=st.dictionaries(st.sampled_from("abc"), _MOMENTS),
    nodes=st.integers(1, 3),
    is_owner=st.booleans(),
    document=st.builds(
        Verdict,
        st.sampled_from(DocumentState),
        st.sampled_from([None, REVISION, OTHER_REVISION, "x"]),
        behind=st.sampled_from([(), ("b",)]),
    ),
    suffixes=st.frozensets(st.sampled_from([None, SUFFIX, ".1700050000"]), max_size=2),
    hosts=st.lists(_HOSTS, max_size=3),
    is_blank=st.booleans(),
    breaker=st.builds(Breaker, st.integers(0, 4), st.integers(1, 3)),
)
_ENTRIES = st.sampled_from([ENTRY, ENTRY.begun(NOW), msgspec.structs.replace(ENTRY, due_at=NOTED), RETURN])


def _holds(entry: Entry, known: Known) -> dict[str, bool]:
    """Return every condition of a drop, written down independently of the code."""
    deletion = entry.kind is Kind.DELETION
    agreeing = [
        min(one, other)
        for name, one in known.dates.items()
        for another, other in known.dates.items()
        if name != another and abs(one - other) <= 60
    ] + [each for each in known.dates.values() if known.nodes == 1]
    waited = known.now >= entry.due_at and (
        entry.due_at == entry.noted_at or any(each >= entry.due_at for each in agreeing)
    )
    now = known.saying.word is Word.DROP_NOW
    return {
        "owner": known.is_owner,
        "word": known.saying.word not in (Word.CANCEL, Word.HOLD) and (deletion or now),
        "name": known.prefix == "userdb-",
        "document": known.document.state is (DocumentState.DELETED if deletion else DocumentState.LIVE),
        "behind": not deletion or not known.document.behind,
        "revision": not deletion or known.document.rev == REVISION,
        "database": known.suffixes == {SUFFIX},
        "pause": not known.pause.paused or (known.saying.resumed and known.pause.why is not PauseReason.UNREADABLE),
        "time": waited or now,
        "hosts": bool(known.hosts)
        and all(len(each.there & each.all) > len(each.all) - len(each.there & each.all) for each in known.hosts),
        "breaker": known.is_blank or known.saying.resumed or known.breaker.drops < known.breaker.max_drops,
    }


@given(_ENTRIES, _KNOWN)
def test_nothing_is_ever_dropped_unless_every_condition_holds(entry: Entry, known: Known) -> None:
    """A database is dropped if all that is known allows it, and only then."""
    assert (decide(entry, known) == Drop()) is all(_holds(entry, known).values())


_SPOILERS: dict[str, Callable[[Known], Known]] = {
    "owner": lambda known: msgspec.structs.replace(known, is_owner=False),
    "word": lambda known: msgspec.structs.replace(known, saying=Saying(Word.HOLD, resumed=True)),
    "document": lambda known: msgspec.structs.replace(known, document=Verdict(DocumentState.MISSING)),
    "revision": lambda known: msgspec.structs.replace(known, document=Verdict(DocumentState.DELETED, OTHER_REVISION)),
    "name": lambda known: msgspec.structs.replace(known, prefix="user-"),
    "behind": lambda known: msgspec.structs.replace(
        known, document=Verdict(DocumentState.DELETED, REVISION, behind=("c",))
    ),
    "database": lambda known: msgspec.structs.replace(known, suffixes=frozenset({None})),
    "pause": lambda known: msgspec.structs.replace(known, pause=UNREADABLE),
    "hosts": lambda known: msgspec.structs.replace(known, hosts=()),
}


@given(_KNOWN, st.sampled_from(sorted(_SPOILERS)))
def test_each_condition_keeps_the_database_by_itself(known: Known, spoiler: str) -> None:
    """A database that would be dropped is kept if any one condition is taken away."""
    known = msgspec.structs.replace(
        known,
        prefix="userdb-",
        is_owner=True,
        document=GOOD.document,
        suffixes=GOOD.suffixes,
        hosts=GOOD.hosts,
        now=NOW,
        dates=GOOD.dates,
        pause=Pause(),
    )
    assume(decide(ENTRY, known) == Drop())
    assert decide(ENTRY, _SPOILERS[spoiler](known)) != Drop()


@given(_ENTRIES, _KNOWN)
def test_a_look_that_is_spared_would_have_dropped_nothing(entry: Entry, known: Known) -> None:
    """If `forbids` makes an entry wait without a request, then `decide` would not drop it either."""
    if forbids(entry, known.saying, known.pause, known.now) is not None:
        assert decide(entry, known) != Drop()
