"""The benchmark `membership`: its sums, and one small run. No test looks at the time that something took."""

import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from unittest import mock

import msgspec
import pytest
import requests

from bench import membership
from bench.benchmark import Options, Setting, run
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.daemons import settings
from bench.harness.open_loop import SignUp, sign_up_at
from bench.membership import measurement
from bench.membership.measurement import QUICK, Course
from bench.membership.samples import AFTER, BEFORE, DURING, KEPT, LOST, Run, User
from bench.membership.tables import MAX_RATIO_TO_BEFORE, phase_rows, summary
from bench.results import percentile
from peruserd.core.configuration.config import ClusterConfig
from peruserd.core.configuration.decoding import load


def user(due: float, milliseconds: float, *, lost: bool = False) -> User:
    """Return a user whose sign-up began and was answered when it was due."""
    return User(f"user{due}", lost, due, due, due, due + milliseconds / 1e3)


def test_users_count_in_the_phase_in_which_they_sign_up() -> None:
    """The warm-up counts nowhere. A user who waits when the instance is killed counts as "during"."""
    empty = Run([], begun=-10.0, restarted=20.0)
    found = [empty.phase(user(*each)) for each in ((-10.1, 1.0), (-10.0, 1.0), (-0.5, 499.0), (-0.5, 501.0))]
    assert found == [None, BEFORE, BEFORE, DURING]
    assert [empty.phase(user(*each)) for each in ((0.0, 1.0), (19.0, 5_000.0), (20.0, 1.0))] == [DURING, DURING, AFTER]


def test_latencies_are_summed_up_by_phase_and_group() -> None:
    """Each row has the users of one phase and one group, of all rounds."""
    rounds = [
        Run(
            [user(-2.0, 999.0), user(-1.0, 10.0), user(1.0, 30.0), user(1.0, 2_000.0, lost=True)],
            begun=-1.0,
            restarted=5.0,
        ),
        Run(
            [user(-1.0, 20.0), user(1.0, 3_000.0, lost=True), user(6.0, 24.0), user(6.0, 12.0, lost=True)],
            begun=-1.0,
            restarted=5.5,
        ),
    ]
    assert phase_rows(rounds) == (
        (BEFORE, KEPT, "2", "10.0", "20.0", "20.0", "20.0"),
        (DURING, KEPT, "1", "30.0", "30.0", "30.0", "30.0"),
        (AFTER, KEPT, "1", "24.0", "24.0", "24.0", "24.0"),
        (BEFORE, LOST, "0", "–", "–", "–", "–"),  # noqa: RUF001
        (DURING, LOST, "2", "2,000.0", "3,000.0", "3,000.0", "3,000.0"),
        (AFTER, LOST, "1", "12.0", "12.0", "12.0", "12.0"),
    )
    figures = membership.figures(rounds)
    assert figures["p99 while an instance is lost / before"].values == pytest.approx((1.5,))
    assert figures["p99 as it comes back / before"].values == pytest.approx((1.2,))
    assert figures["longest wait for a new owner"].values == pytest.approx((3.0,))


def test_rounds_without_a_group_cannot_be_summed_up() -> None:
    """An error says so, because there is nothing to compare with."""
    with pytest.raises(ClusterError, match="too few"):
        summary([Run([user(1.0, 3.0)], begun=-1.0, restarted=5.0)])


@pytest.mark.parametrize(("percent", "value"), [(50, 50.0), (99, 99.0), (99.5, 100.0), (100, 100.0)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    """So many per cent do not exceed it, and it is the least such value. A single value is each of its percentiles."""
    assert percentile([float(each) for each in range(100, 0, -1)], percent) == value
    assert percentile([7.0], percent) == 7.0


@pytest.mark.parametrize("course", [Course(), QUICK], ids=["whole", "quick"])
def test_the_settings_are_valid_and_phases_are_long_enough(course: Course) -> None:
    """Instances accept their settings, and a loss is believed before the instance is started again.

    When the phases begin, the first users have left, so the cluster fills up no further.
    """
    loaded = load("", settings(course.settings), "nothing")
    assert loaded.config.cluster == course.settings
    assert course.during > course.promised
    assert course.warm_up >= course.stay


def test_the_whole_run_has_the_default_settings() -> None:
    """So the measured wait is that of users."""
    assert Course().settings == ClusterConfig()


@pytest.fixture
def cluster() -> object:
    """Stand in for a cluster; its nodes are not asked."""
    stub = mock.Mock(spec=Cluster)
    stub.urls = ["http://a", "http://b", "http://c"]
    return stub


def answering(cluster: mock.Mock, status: int | Exception = 201) -> mock.Mock:
    """Let each PUT answer so; return the mock of PUT."""
    session = mock.MagicMock(spec=requests.Session)
    session.__enter__.return_value = session
    answer = mock.Mock(status_code=status, text="why")
    put = mock.Mock(side_effect=status if isinstance(status, Exception) else lambda *_, **__: answer)
    session.put = put
    cluster.another_session.return_value = session
    return put


def test_every_user_signs_up_once_at_the_given_nodes_in_turn(cluster: mock.Mock) -> None:
    """Sign-ups are in the given order, an interval apart, and never early. The callback gets each of them."""
    put, names, seen = answering(cluster), [f"name {number}" for number in range(10)], list[SignUp]()
    signed_up = sign_up_at(cluster, names, 1_000.0, [0, 2], seen.append, lead_seconds=0.01)
    assert [each.name for each in signed_up] == names
    assert sorted(seen, key=lambda each: each.number) == signed_up
    gaps = [after.due - before.due for before, after in pairwise(signed_up)]
    assert gaps == pytest.approx([0.001] * 9, abs=1e-6)
    assert all(each.answered is not None and each.due <= each.begun <= each.answered for each in signed_up)
    hosts = Counter(call.args[0].partition("/_users/")[0] for call in put.call_args_list)
    assert hosts == {"http://a": 5, "http://c": 5}
    assert "http://c/_users/org.couchdb.user%3Aname%201" in [call.args[0] for call in put.call_args_list]


@pytest.mark.parametrize("status", [500, requests.ConnectionError("gone")])
def test_a_failure_is_kept_and_stops_nothing(cluster: mock.Mock, status: int | Exception) -> None:
    """The sign-up has a reason instead of a time, and the callback does not get it."""
    answering(cluster, status)
    seen: list[SignUp] = []
    signed_up = sign_up_at(cluster, ["a", "b", "c"], 1_000.0, [0], seen.append, lead_seconds=0.01)
    assert [each.answered for each in signed_up] == [None] * 3
    assert all(each.failure in ("500 why", "gone") for each in signed_up)
    assert not seen


def test_a_slow_sign_up_does_not_keep_the_next_one_waiting(cluster: mock.Mock) -> None:
    """The first sign-up ends only when the second one has begun. In a closed loop that would never happen."""
    put, second = answering(cluster), threading.Event()
    plain = put.side_effect

    def answer(url: str, **options: object) -> object:
        if url.endswith("b"):
            second.set()
        assert second.wait(60.0)
        return plain(url, **options)

    put.side_effect = answer
    assert all(each.answered is not None for each in sign_up_at(cluster, ["a", "b"], 1_000.0, [0], lead_seconds=0.01))


def test_what_the_callback_raises_ends_the_loop(cluster: mock.Mock) -> None:
    """The loop does not go on with the sign-ups of an hour."""
    answering(cluster)

    def then(_: SignUp) -> None:
        raise ClusterError("no database")

    with pytest.raises(ClusterError, match="no database"):
        sign_up_at(cluster, [str(number) for number in range(1_000)], 1.0, [0], then, lead_seconds=0.01)


def measured(cluster: mock.Mock, instances: mock.Mock, *, failure: str | None, left: set[str]) -> None:
    """Run a round in which nothing takes any time."""
    watch, loop = mock.MagicMock(), mock.MagicMock()
    cluster.nodes, cluster.new_names.return_value, cluster.owners.return_value = ["n", "m"], ["a"], {"a": "n"}
    watch.__enter__.return_value, loop.__enter__.return_value = watch, loop
    watch.wait_for.return_value, watch.served = left, {"a": 0.0}
    loop.start = 0.0
    loop.finish.return_value = [SignUp(0, "a", 0.0, 0.0, answered=None if failure else 0.0, failure=failure)]
    course = Course(warm_up=0.0, before=0.0, during=0.0, after=0.0)
    with (
        mock.patch.object(measurement, "Watch", return_value=watch),
        mock.patch.object(measurement, "OpenLoop", return_value=loop) as opened,
    ):
        try:
            measurement._round(cluster, instances, course, mock.Mock())
        finally:
            assert opened.call_args.args[3] == [0]


@pytest.mark.parametrize(
    ("failure", "left", "complaint"),
    [("500 why", set(), "1 users could not sign up: a: 500 why"), (None, {"a"}, "1 users were not served, such as a")],
)
def test_a_user_without_a_database_is_an_error(failure: str | None, left: set[str], complaint: str) -> None:
    """There is no result, whether the sign-up failed or the user was not served."""
    instances = mock.MagicMock()
    with pytest.raises(ClusterError, match=complaint):
        measured(mock.MagicMock(), instances, failure=failure, left=left)
    instances.kill.assert_called_once_with(1)
    instances.start.assert_called_once_with([1])


def test_too_few_nodes_are_refused() -> None:
    """With one node no instance would be left."""
    lonely = mock.Mock(spec=Setting, cluster=mock.Mock(spec=Cluster, nodes=["a"]))
    with pytest.raises(ClusterError, match="two nodes"):
        list(membership.measure(lonely, QUICK, mock.Mock()))


def test_a_quick_run_serves_everybody(tmp_path: Path) -> None:
    """On a simulated cluster an instance is killed. Each user is a sample, and there are figures and a picture."""
    result = run("membership", membership, Options(quick=True))
    (only,) = result.samples
    users: list[User] = only.users
    assert len(users) == QUICK.users
    assert any(each.lost for each in users)
    assert any(not each.lost for each in users)
    assert result.figures.keys() >= {"p99 before", "p99 while an instance is lost / before"}
    assert "| phase" in result.text()
    written = msgspec.json.decode(result.write_json(tmp_path).read_bytes())
    assert written["figures"]["p99 while an instance is lost / before"]["goal"] == MAX_RATIO_TO_BEFORE
    assert result.write_chart(tmp_path).read_bytes().startswith(b"\x89PNG")
