"""The controls from outside: operations, arguments, answers and errors are the same as in the cluster's own loop."""

import inspect
from typing import Any

import pytest
import requests

from peruserd.simcluster import ClusterOptions, ControlClient, SimClusterControl, SimClusterThread, Write
from peruserd.simcluster.controls import Controls

OPERATIONS = [name for name in vars(Controls) if not name.startswith("_")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_there_for_callers_as_it_is_written(name: str) -> None:
    """It has the same arguments and the same words, and nobody has to write it a second time."""
    written, offered = getattr(Controls, name), getattr(ControlClient, name)
    assert inspect.signature(offered) == inspect.signature(written)
    assert offered.__doc__ == written.__doc__
    assert offered is not written


def test_answers_are_the_same_in_the_thread_and_over_the_port() -> None:
    """Also those that JSON has no form for: keys of three parts, and writes."""
    with SimClusterThread(ClusterOptions(nodes=2, q=1, n=2, control_port=0)) as cluster:
        assert cluster.control_url is not None
        distant = SimClusterControl(cluster.control_url)
        assert distant.requests() == cluster.requests() == {}
        assert requests.put(cluster.urls[1] + "/db", timeout=60).status_code == 201
        assert distant.requests() == cluster.requests() == {("node2@127.0.0.1", "PUT", "database"): 1}
        assert distant.writes() == cluster.writes()
        assert [type(each) for each in distant.writes()] == [Write]
        assert distant.describe() == cluster.describe()
        assert distant.seed_users(2, "u", provisioned_prefix="userdb-") == ["u000000", "u000001"]
        assert distant.databases() == cluster.databases(2)
        assert distant.snapshot_security("db") == cluster.snapshot_security("db")
        assert distant.snapshot_copies("userdb-75303030303030") == cluster.snapshot_copies("userdb-75303030303030")
        distant.close()


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("fly", {}, "lookup"),
        ("_call", {}, "lookup"),
        ("stop_node", {"node": 9}, "lookup"),
        ("split", {"database": "nobody's"}, "lookup"),
        ("stop_node", {}, "value"),
        ("stop_node", {"node": 1, "gently": True}, "value"),
        ("stop_node", {"node": "one"}, "value"),
        ("stop_node", [1], "value"),
        ("set_delay", {"node": 1, "seconds": 1, "path_regex": "("}, "value"),
    ],
)
def test_a_wrong_call_is_answered_with_what_is_wrong(name: str, arguments: Any, error: str) -> None:
    """It does nothing, and the cluster goes on."""
    with SimClusterThread(ClusterOptions(nodes=1, q=1, n=1, control_port=0)) as cluster:
        answer = requests.post(f"{cluster.control_url}/{name}", json=arguments, timeout=60)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert answer.json()["message"]
        assert requests.post(f"{cluster.control_url}/databases", timeout=60).json() == {"result": ["_users"]}


def test_a_call_that_cannot_be_understood_is_refused_before_it_travels() -> None:
    """A caller sees the error of a plain function, and errors of the cluster as they were raised there."""
    with SimClusterThread(ClusterOptions(nodes=1, q=1, n=1)) as cluster:
        with pytest.raises(TypeError):
            cluster.stop_node()  # type: ignore[call-arg]
        with pytest.raises(LookupError, match="no node 9"):
            cluster.stop_node(9)
        with pytest.raises(ValueError, match="Expected `int`"):
            cluster.stop_node("one")  # type: ignore[arg-type]
