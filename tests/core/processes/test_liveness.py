"""The judgement about threads, by their signs of life."""

from typing import Any

import msgspec
import pytest

from peruserd.core.processes.liveness import Attention, Life, why_not_alive

NOW = 10_000.0
ATTENTIVE = Attention(asked_at=NOW - 1.0)
LIVING = Life("cluster-watch", due=NOW + 5.0)


def life(**changes: Any) -> Life:
    """Return the life of a thread with changes."""
    return msgspec.structs.replace(LIVING, **changes)


@pytest.mark.parametrize(
    "living",
    [
        LIVING,
        life(due=NOW),
        life(due=float("inf")),
        life(failures=4, failing_since=0.0),
        life(failures=100, failing_since=NOW - 299.0),
    ],
    ids=["heard", "just-due", "waits-for-others", "few-failures", "fails-since-a-while"],
)
def test_a_thread_lives(living: Life) -> None:
    """A thread that waits for others may be silent, and one that fails is given time."""
    assert why_not_alive([living, LIVING], NOW, ATTENTIVE) is None


@pytest.mark.parametrize(
    ("dead", "why"),
    [
        (life(due=NOW - 12.0), "the thread 'cluster-watch' hangs: a sign of life is overdue by 12 s"),
        (
            life(failures=5, failing_since=NOW - 300.0, error="ValueError('odd')"),
            "the thread 'cluster-watch' has failed 5 times in a row, for 300 s: ValueError('odd')",
        ),
        (life(ended=True, error="SystemExit(1)"), "the thread 'cluster-watch' has ended: SystemExit(1)"),
    ],
    ids=["silent", "fails-for-good", "ended"],
)
def test_a_thread_does_not_live(dead: Life, why: str) -> None:
    """The words say which one, and why, wherever it stands among the others."""
    assert why_not_alive([LIVING, dead, LIVING], NOW, ATTENTIVE) == why


def test_after_a_standstill_of_the_process_silence_is_excused() -> None:
    """A paused container was silent in all its threads. Each of them has a minute for a sign of life afterwards."""
    silent = life(due=NOW + 20.0)
    woken = NOW + 3_600.0
    attention = ATTENTIVE.asked(woken)
    for seconds in range(0, 61, 10):
        attention = attention.asked(woken + seconds)
        assert why_not_alive([silent], woken + seconds, attention) is None
    attention = attention.asked(woken + 70.0)
    assert why_not_alive([silent], woken + 70.0, attention) is not None
    assert why_not_alive([life(ended=True)], woken, ATTENTIVE.asked(woken)) is not None


def test_questions_that_come_often_excuse_nothing() -> None:
    """The supervisor's loop asks every ten seconds at least."""
    attention = ATTENTIVE
    for second in range(0, 600, 10):
        attention = attention.asked(NOW + second)
    assert why_not_alive([life(due=NOW + 580.0)], NOW + 590.0, attention) is not None


def test_the_first_question_excuses_nobody() -> None:
    """A listener's process is forked from an older one, whose clock says nothing about a standstill."""
    overdue = Life("cluster-watch", due=NOW - 1.0)
    assert why_not_alive([overdue], NOW, Attention().asked(NOW)) is not None
