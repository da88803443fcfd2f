import pprint
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from peruserd.core.cluster.views import View, make_database_plan, make_plan
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.decoding import load
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.messages import (
    CheckToken,
    Credentials,
    Goodbye,
    Hello,
    Inform,
    ListenerStart,
    Reauthenticate,
    Report,
    Stage,
    Stop,
    TakeOverDoubts,
    Token,
    decode_from_listener,
    decode_start,
    decode_to_listener,
    encode,
)
from peruserd.couch.answers import Answer
from peruserd.couch.cookies import SessionCookie
from tests.starting import listener_start

PASSWORD = "hunter2"
COUNTS = st.integers(0, 2**63)
SEQUENCES = st.none() | COUNTS | st.text(max_size=20)
REPORTS = st.builds(
    Report,
    rounds=COUNTS,
    stage=st.sampled_from(Stage),
    caught_up=st.booleans(),
    checkpoint=SEQUENCES,
    shard_sequence=SEQUENCES,
    waiting=COUNTS,
    in_flight=COUNTS,
    quarantined=COUNTS,
    informed=COUNTS,
    counters=st.builds(
        Counters, changes_seen=COUNTS, databases_created=COUNTS, failures=st.dictionaries(st.text(max_size=5), COUNTS)
    ),
)


SECRETS = st.none() | st.builds(Secret, st.text())
TOKENS = st.builds(Token, number=COUNTS, authorization=SECRETS, cookie=SECRETS, relayed=SECRETS)


def _start(token: Token | None) -> ListenerStart:
    (assignment,) = make_database_plan("_users", "n1").assignments
    return listener_start(assignment, token=token, recall_seconds=29.0)


@given(
    message=st.one_of(
        REPORTS,
        st.builds(Goodbye, reason=st.text()),
        st.just(Hello()),
        st.builds(CheckToken, COUNTS, st.none() | st.text()),
    )
)
def test_what_a_listener_says_arrives_as_it_was_said(message: Hello | Report | CheckToken | Goodbye) -> None:
    """Every message of a listener survives the pipe: integer and opaque sequences, counters, words."""
    assert decode_from_listener(encode(message)) == message


@given(
    message=st.one_of(
        st.builds(
            Inform,
            number=COUNTS,
            ownership=st.from_type(Ownership),
            upcoming=st.none() | st.from_type(Ownership),
            share=st.integers(1, 1024),
            new_per_minute=COUNTS,
            nodes=st.lists(st.text()).map(tuple),
        ),
        st.builds(Stop, within_seconds=st.floats(0.0, 3600.0), leaving=st.booleans()),
        st.builds(TakeOverDoubts, in_use=st.lists(st.text()).map(tuple)),
        st.builds(Reauthenticate, token=st.none() | TOKENS, why=st.none() | st.text(), answers=COUNTS),
    )
)
def test_what_a_supervisor_says_arrives_as_it_was_said(
    message: Inform | Stop | TakeOverDoubts | Reauthenticate,
) -> None:
    """Every message of a supervisor survives the pipe, whatever the cluster's state."""
    assert decode_to_listener(encode(message)) == message


@given(view=st.from_type(View), seen=st.from_type(View), near=SEQUENCES, data=st.data())
def test_a_listener_begins_with_what_its_supervisor_knows(
    view: View, seen: View, near: int | str | None, data: st.DataObject, documents: tuple[str, ...]
) -> None:
    """The message that starts a child contains the copy and the ownership exactly as the plan has them."""
    me = data.draw(st.sampled_from(view.instances))
    for assignment in make_plan(view, me, seen).assignments:
        start = msgspec.structs.replace(
            _start(None),
            copy=assignment.copy,
            ownership=assignment.ownership,
            upcoming=assignment.upcoming,
            resume_near=near,
        )
        arrived = decode_start(encode(start))
        assert arrived == start
        assert [arrived.ownership.owner(each) for each in documents] == [
            assignment.ownership.owner(each) for each in documents
        ]


@pytest.mark.parametrize(
    ("stage", "reading"), [(Stage.CONNECTING, False), (Stage.SCANNING, True), (Stage.FOLLOWING, True)]
)
def test_a_listener_reads_its_copy_unless_it_is_still_connecting(stage: Stage, *, reading: bool) -> None:
    """The stage "connecting" in a report says that the listener has lost its copy."""
    report = Report(0, stage, False, None, None, 0, 0, 0, Counters())  # noqa: FBT003 - fields of a message
    assert report.is_reading == reading


def test_a_listener_is_given_the_session() -> None:
    """The message to the child still carries the password that no representation shows."""
    token = Token(3, authorization=Secret("Basic x"), cookie=Secret(PASSWORD))
    arrived = decode_start(encode(_start(token)))
    assert arrived.token is not None
    assert arrived.token.cookie is not None
    assert arrived.token.cookie.value == PASSWORD
    assert arrived.token == token


SECRETIVE = [
    pytest.param(Secret(PASSWORD), id="secret"),
    pytest.param(Credentials("adm", Secret(PASSWORD)), id="credentials"),
    pytest.param(_start(Token(1, authorization=Secret(PASSWORD))), id="listener-start"),
    pytest.param(Reauthenticate(Token(1, cookie=Secret(PASSWORD))), id="reauthenticate"),
    pytest.param(SessionCookie(Secret(PASSWORD), 600.0), id="session-cookie"),
    pytest.param(Answer("POST /_session", 200, b"{}", SessionCookie(Secret(PASSWORD), None)), id="answer"),
    pytest.param(load(f'[couchdb]\nurl = "http://adm:{PASSWORD}@host:5984"', {}, "f.toml"), id="loaded"),
]
SHOWN_BY = [
    pytest.param(repr, id="repr"),
    pytest.param(str, id="str"),
    pytest.param(lambda value: f"{value}", id="f-string"),
    pytest.param(lambda value: f"{value!r:>40}", id="f-string-repr"),
    pytest.param(lambda value: "%s %r" % (value, value), id="percent"),  # noqa: UP031 - logging formats this way
    pytest.param(lambda value: str([value, {"key": value}]), id="in-containers"),
    pytest.param(lambda value: str(ValueError("wrong", value)), id="in-an-error"),
    pytest.param(pprint.pformat, id="pprint"),
    pytest.param(pretty_repr, id="rich-as-in-structlogs-tracebacks"),
]


@pytest.mark.parametrize("value", SECRETIVE)
@pytest.mark.parametrize("show", SHOWN_BY)
def test_a_password_is_never_shown(value: object, show: Callable[..., str]) -> None:
    """Every written form of a value with a password hides the password, and shows only that there is one."""
    shown = show(value)
    assert PASSWORD not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        pytest.param(decode_to_listener, Hello(), id="hello-to-a-listener"),
        pytest.param(decode_from_listener, Stop(1.0), id="stop-from-a-listener"),
        pytest.param(decode_start, Hello(), id="hello-as-start"),
    ],
)
def test_a_message_in_the_wrong_direction_is_refused(
    decode: Callable[[bytes], object], message: msgspec.Struct
) -> None:
    """Each end understands only what the other may say."""
    with pytest.raises(msgspec.ValidationError):
        decode(encode(message))


@pytest.mark.parametrize("decode", [decode_to_listener, decode_from_listener, decode_start])
def test_a_message_cut_short_is_refused(decode: Callable[[bytes], object]) -> None:
    """Half a message, as of a child that died while it wrote, is an error and not another message."""
    whole = encode(Goodbye("stopped"))
    with pytest.raises(msgspec.DecodeError):
        decode(whole[: len(whole) // 2])
