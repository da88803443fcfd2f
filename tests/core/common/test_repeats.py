"""Lines that repeat are said once with their number, and memory stays bounded."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.repeats import REPEATED, SECONDS, SUBJECTS, TROUBLES, TROUBLES_OF_EVENT, Repeats

AWAY = {"level": "warning", "event": "not served", "error": "no answer"}


class Log:
    """What is written of the lines that are said, with a clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.written: list[dict[str, Any]] = []
        self.repeats = Repeats()

    def say(self, **line: object) -> bool:
        """Say a line; return whether it was written."""
        self.written += map(dict, self.repeats.due(self.now))
        if admitted := self.repeats.admits({"timestamp": str(self.now), **line}, self.now):
            self.written.append(line)
        return admitted

    def wait(self, seconds: float) -> list[dict[str, Any]]:
        """Let time pass; return what is written at its end."""
        self.now += seconds
        return [dict(each) for each in self.repeats.due(self.now)]


@pytest.fixture
def log() -> Log:
    """A log in which nothing was said yet."""
    return Log()


def test_a_line_that_repeats_is_written_once_and_counted(log: Log) -> None:
    """The count comes at the end of the minute, with what the lines had in common."""
    assert [log.say(**AWAY, document="ann") for _ in range(1_000)] == [True, *[False] * 999]
    assert log.wait(SECONDS - 1) == []
    assert log.wait(1) == [{**AWAY, REPEATED: 999}]
    assert log.wait(SECONDS) == []


def test_after_a_minute_a_line_is_written_again(log: Log) -> None:
    """So a trouble that lasts has two lines a minute."""
    for _ in range(int(3 * SECONDS)):
        log.say(**AWAY)
        log.now += 1.0
    counts = [line.get(REPEATED) for line in log.written]
    assert counts == [None, 59, None, 59, None]


def test_a_line_that_came_once_is_not_said_again(log: Log) -> None:
    """Only what was held back is counted."""
    assert log.say(**AWAY)
    assert log.wait(SECONDS) == []


def test_numbers_make_no_line_another_one(log: Log) -> None:
    """Pauses, process ids and counts differ each time."""
    assert log.say(**AWAY, pid=1, again_in_seconds=0.5)
    assert not log.say(**AWAY, pid=2, again_in_seconds=1.5)


@pytest.mark.parametrize(
    "other", [{"level": "error"}, {"event": "not read"}, {"error": "refused"}, {"kind": "timeout"}]
)
def test_another_trouble_is_written(log: Log, other: dict[str, str]) -> None:
    """Its level, its event and its words each tell it from others."""
    assert log.say(**AWAY)
    assert log.say(**{**AWAY, **other})


def test_of_many_subjects_with_one_trouble_the_first_are_written(log: Log) -> None:
    """When everybody fails for one reason, the first users show it, and the number of the others says how much."""
    written = [log.say(**AWAY, document=f"user-{number}") for number in range(1_000)]
    assert written == [True] * SUBJECTS + [False] * (1_000 - SUBJECTS)
    assert log.wait(SECONDS) == [{**AWAY, REPEATED: 1_000 - SUBJECTS}]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("PUT /userdb-{hex}/_security: 500", "PUT /userdb-…/_security: 500"),
        ("PUT /userdb-#{hash}/_security: 500", "PUT /userdb-…/_security: 500"),
        ("GET /f0000000-ffffffff/userdb-#{hash}: 500", "GET /f0000000-ffffffff/userdb-…: 500"),
        ("no answer for org.couchdb.user:{name}", "no answer for org.couchdb.user:…"),
        (
            "no answer from 127.0.0.1:{number}, the reference is {number}",
            "no answer from 127.0.0.1:0, the reference is 0",
        ),
    ],
)
def test_users_and_numbers_in_the_words_make_no_other_trouble(log: Log, error: str, said: str) -> None:
    """The first lines show them, and the number of the others comes once, without a user."""
    for number in range(1_000):
        name = f"user-{number}"
        digits = hashlib.sha256(name.encode()).hexdigest()[:16]
        log.say(**{**AWAY, "error": error.format(hex=name.encode().hex(), hash=digits, name=name, number=number)})
    assert len(log.written) == SUBJECTS
    (counted,) = log.wait(SECONDS)
    assert counted == {**AWAY, "error": said, REPEATED: 1_000 - SUBJECTS}


def test_each_node_in_the_words_is_written(log: Log) -> None:
    """Who is away matters, although only a number tells nodes apart."""
    assert [log.say(**{**AWAY, "error": f"no answer from node{number}"}) for number in (1, 2, 1, 2)] == [
        True,
        True,
        False,
        False,
    ]


def test_words_that_differ_each_time_are_bounded(log: Log) -> None:
    """A server or an enemy can choose them. Other events are written all the same."""
    for number in range(5_000):
        words = "".join(chr(ord("g") + int(digit)) for digit in str(number))
        log.say(**{**AWAY, "error": words}, document=f"user-{number}")
    assert len(log.written) == TROUBLES_OF_EVENT + SUBJECTS
    assert log.say(**{**AWAY, "event": "not read"})
    assert log.wait(SECONDS) == [{"level": "warning", "event": "not served", REPEATED: 5_000 - len(log.written) + 1}]


@pytest.mark.parametrize("line", [{"event": "audit"}, {"event": "listener started"}, {"event": "x", "error": "y"}])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_was_done_is_always_written(log: Log, line: dict[str, str], level: str) -> None:
    """Each write to a user's access is a line of its own, however many there are."""
    assert all(log.say(level=level, **line) for _ in range(100))
    assert log.wait(SECONDS) == []


def test_at_the_end_everything_is_said_that_was_held_back(log: Log) -> None:
    """A process does not wait for a minute to end."""
    for event in ("a", "b", "b", "c", "c", "c"):
        log.say(level="error", event=event)
    assert [(line["event"], line[REPEATED]) for line in log.repeats.rest()] == [("b", 1), ("c", 2)]
    assert list(log.repeats.rest()) == []


def test_it_is_known_when_something_is_to_be_said(log: Log) -> None:
    """A timer can wait for that. Without a line held back there is nothing to wait for."""
    assert log.repeats.next_due is None
    log.say(**AWAY)
    assert log.repeats.next_due is None
    log.now += 5.0
    log.say(**AWAY)
    assert log.repeats.next_due == log.now - 5.0 + SECONDS


@given(st.lists(st.tuples(st.integers(0, 3_000), st.text(max_size=3), st.floats(0.0, 2.0)), max_size=600))
def test_memory_is_bounded_and_no_line_is_forgotten(lines: list[tuple[int, str, float]]) -> None:
    """A server can word each error otherwise. Every line is written or counted, once."""
    log = Log()
    for number, subject, pause in lines:
        words = "".join(chr(ord("g") + int(digit)) for digit in str(number))
        log.say(level="error", event=words[:2], error=words, document=subject)
        log.now += pause
        assert len(log.repeats._troubles) <= TROUBLES + 1
        assert all(len(each.subjects) <= SUBJECTS for each in log.repeats._troubles.values())
    log.written += map(dict, log.repeats.rest())
    said = sum(int(each.get(REPEATED, 1)) for each in log.written)
    assert said == len(lines)


def test_an_error_of_any_length_takes_little_memory(log: Log) -> None:
    """Only the beginning of the words tells troubles apart; those of the first line stand for all."""
    for number in range(SUBJECTS + 1):
        log.say(level="error", event="failed", error="x" * 100_000 + "y" * number)
    (counted,) = log.repeats.rest()
    assert counted[REPEATED] == 1
    assert len(str(counted)) < 3_000
