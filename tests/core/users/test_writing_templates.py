"""The decision where templates put documents into databases, carried out on a small world in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.users.contents import TemplateStatus
from peruserd.core.users.evidence import DocumentState
from peruserd.core.users.facts import Hint
from peruserd.core.users.quarantine import Advice
from peruserd.core.users.security import CopiesDisagreeError, Security
from peruserd.core.users.steps import Ask, Create, Failed, NothingToDo, Removed, Served, Write, WriteTemplates
from tests.core.deciding import FRESH, GRANTED, REVOKED, World, known

MISSING = {"a": TemplateStatus.MISSING, "b": TemplateStatus.MISSING}
RIGHT = {"a": TemplateStatus.CURRENT, "b": TemplateStatus.CURRENT}
MIXED = {
    "current": TemplateStatus.CURRENT,
    "outdated": TemplateStatus.OUTDATED,
    "missing": TemplateStatus.MISSING,
    "changed": TemplateStatus.CHANGED,
    "deleted": TemplateStatus.DELETED,
}


def world(copies: list[Security] | None, documents: dict[str, TemplateStatus], *, live: bool = True) -> World:
    """Return a world with documents of templates in it."""
    made = World(copies, DocumentState.LIVE if live else DocumentState.DELETED)
    made.documents = dict(documents)
    return made


def test_a_new_database_is_complete_before_its_user_is_let_in() -> None:
    """The documents come between the making and the security object."""
    there = world(None, MISSING)
    assert there.act(known(Hint.LIVE, templated=True)) == Served()
    assert [each for each in there.steps if not isinstance(each, Ask)] == [
        Create(),
        WriteTemplates(),
        Write(GRANTED),
        Served(),
    ]
    assert there.documents == RIGHT


def test_without_templates_nobody_looks_for_any() -> None:
    """A new user takes two requests then, and a rollout of rights looks at no document."""
    there = world(None, MISSING)
    assert there.act(known(Hint.LIVE)) == Served()
    assert there.steps == [Create(), Write(GRANTED), Served()]
    again = world([GRANTED] * 3, MISSING)
    assert again.act(known(Hint.CONTESTED, rollout=True)) == Served()
    assert Ask.CONTENTS not in again.steps


@pytest.mark.parametrize("hint", list(Hint))
@pytest.mark.parametrize("documents", [MISSING, RIGHT, {"a": TemplateStatus.CURRENT, "b": TemplateStatus.MISSING}])
def test_a_creation_that_was_cut_short_is_completed(hint: Hint, documents: dict[str, TemplateStatus]) -> None:
    """A database whose security object nobody ever wrote is new, whoever looks and for whatever reason."""
    there = world([FRESH] * 3, documents)
    assert isinstance(there.act(known(hint, templated=True)), Served | Removed)
    if hint is not Hint.DELETED:
        assert there.documents == RIGHT
        assert there.copies == [GRANTED] * 3


@pytest.mark.parametrize("hint", list(Hint))
@pytest.mark.parametrize("found", [GRANTED, REVOKED])
def test_a_database_that_was_there_keeps_its_documents(hint: Hint, found: Security) -> None:
    """New templates reach it by a rollout alone, also where its user is let in again."""
    there = world([found] * 3, MIXED)
    assert isinstance(there.act(known(hint, templated=True)), Served | Removed)
    assert there.documents == MIXED
    assert Ask.CONTENTS not in there.steps


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_rollout_writes_what_is_due(overwrite: bool) -> None:  # noqa: FBT001 - a parameter
    """Documents that the user changed or deleted are kept, unless the operator says otherwise."""
    there = world([GRANTED] * 3, MIXED)
    assert there.act(known(Hint.CONTESTED, templated=True, rollout=True, overwrite=overwrite)) == Served()
    changed = {name for name in MIXED if there.documents[name] is not MIXED[name]}
    assert changed == {"outdated", "missing"} | ({"changed", "deleted"} if overwrite else set())
    assert there.steps[-3:] == [WriteTemplates(), Ask.CONTENTS, Served()]


def test_a_rollout_that_finds_all_right_writes_nothing() -> None:
    """So an interrupted rollout skips the users that it has done."""
    there = world([GRANTED] * 3, RIGHT)
    assert there.act(known(Hint.CONTESTED, templated=True, rollout=True)) == Served()
    assert there.steps == [Ask.DOCUMENT, Ask.COPIES, Ask.CONTENTS, Served()]


def test_a_rollout_leaves_a_deleted_users_database_alone() -> None:
    """The owner of the user handles the deletion."""
    there = world([GRANTED] * 3, MIXED, live=False)
    assert isinstance(there.act(known(Hint.CONTESTED, templated=True, rollout=True)), NothingToDo)
    assert there.documents == MIXED
    assert there.copies == [GRANTED] * 3


def test_a_database_that_refuses_is_its_users_own_failure() -> None:
    """A validation function of the user's refuses for ever: nothing but another change helps."""
    there = world([GRANTED] * 3, MISSING)
    there.refusing = "a: forbidden: no"
    step = there.act(known(Hint.CONTESTED, templated=True, rollout=True))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.advice) == ("template_refused", Advice.GIVE_UP)
    assert "a: forbidden: no" in step.failure.message


@pytest.mark.parametrize("copies", [None, [FRESH] * 3])
def test_a_new_database_that_refuses_is_the_operators_failure(copies: list[Security] | None) -> None:
    """No user has had it yet, so a template is at fault. Nobody is let into a database that is not complete."""
    there = world(copies, MISSING)
    there.refusing = "_design/a: compilation_error: no"
    step = there.act(known(Hint.LIVE, templated=True))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.advice) == ("template_refused", Advice.ASK_OPERATOR)
    assert there.copies == [FRESH] * 3


def test_somebody_who_writes_the_same_documents_is_not_fought_for_ever() -> None:
    """The user gets the documents later."""
    there = world([GRANTED] * 3, MISSING)

    def undo(there: World) -> None:
        there.documents["a"] = TemplateStatus.MISSING

    there.after_template_write = undo
    step = there.act(known(Hint.CONTESTED, templated=True, rollout=True))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.advice) == ("restless_documents", Advice.RETRY)


def test_two_who_make_one_database_at_once_end_with_one_set() -> None:
    """Each of the two reads the documents that the other one wrote meanwhile, and finds them right."""
    there = world(None, MISSING)

    def other(there: World) -> None:
        there.documents = dict(RIGHT)

    there.after_template_write = other
    assert there.act(known(Hint.LIVE, templated=True)) == Served()
    assert there.steps.count(WriteTemplates()) == 1


OBJECTS = st.sampled_from([FRESH, {}, GRANTED, REVOKED, {"members": {"names": ["bob"]}}])


@given(
    copies=st.none() | st.lists(OBJECTS, min_size=3, max_size=3),
    document=st.sampled_from(DocumentState),
    hint=st.sampled_from(Hint),
    away=st.frozensets(st.integers(0, 2), max_size=2),
    rollout=st.sampled_from([(False, False), (True, False), (True, True)]),
    refusing=st.sampled_from(["", "a: forbidden: no"]),
)
def test_whatever_is_found_no_user_gets_an_incomplete_database(
    copies: list[Security] | None,
    document: DocumentState,
    hint: Hint,
    away: frozenset[int],
    rollout: tuple[bool, bool],
    refusing: str,
) -> None:
    """Documents are written into new databases and by rollouts alone, and before the first security object."""
    there = World(copies and list(copies), document, away=away)
    there.documents = dict(MISSING if copies is None else MIXED)
    there.refusing = refusing
    facts = known(hint, templated=True, rollout=rollout[0], overwrite=rollout[1])
    try:
        end = there.act(facts)
    except CopiesDisagreeError:
        assert WriteTemplates() not in there.steps
        return
    is_new = copies is None or all(each in (FRESH, {}) for place, each in enumerate(copies) if place not in away)
    if WriteTemplates() in there.steps:
        assert is_new or (rollout[0] and document is DocumentState.LIVE)
    if is_new and isinstance(end, Served):
        assert not any(each.is_due for each in there.documents.values())
        letting_in = [isinstance(step, Write) and step != Write(FRESH) for step in there.steps]
        places = [place for place, is_one in enumerate(letting_in) if is_one]
        assert not places or there.steps.index(WriteTemplates()) < places[0]
    if not rollout[1]:
        assert [each for each in there.documents.values() if each.is_kept] == [
            each for each in (MISSING if copies is None else MIXED).values() if each.is_kept
        ]


@pytest.mark.parametrize("hint", [Hint.LIVE, Hint.CONTESTED])
@pytest.mark.parametrize("opened", [1, 2, 3])
def test_a_database_that_is_open_to_all_is_shut_before_anything_is_put_into_it(hint: Hint, opened: int) -> None:
    """Its user made it look new and lets it refuse each document; a process that died can have left it so, too."""
    there = world([{}] * opened + [FRESH] * (3 - opened), MISSING)
    there.refusing = "a: forbidden: no"
    step = there.act(known(hint, templated=True))
    assert isinstance(step, Failed)
    assert step.failure.kind == "template_refused"
    assert there.copies == [FRESH] * 3
    there.refusing = ""
    assert there.act(known(hint, templated=True)) == Served()
    assert there.documents == RIGHT
    assert there.copies == [GRANTED] * 3
