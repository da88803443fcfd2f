"""What enemies choose as names goes through the commands, and neither steers a terminal nor looks like other words.

Nodes' names come from the server, and users' names from the users. The one set of `tests.evil_names` is used for both.
"""

from collections.abc import Callable

import pytest

from peruserd.cli import owner, plan
from peruserd.cli.observing import Observed
from peruserd.core.cluster.explanation import explain_owner, whole_plan
from peruserd.core.cluster.leases import Lease, LeaseStatus
from peruserd.core.cluster.views import Feed, View
from peruserd.core.common.escaping import harmless, named, shown
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from peruserd.supervisor.attaching import Attachment
from peruserd.supervisor.membership import Peer
from tests.evil_names import EVIL, UNSERVABLE, harmful
from tests.system.server import PREFIX

ALL = {**EVIL, **UNSERVABLE}


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_a_text_is_shown_in_one_line_that_steers_nothing(text: str) -> None:
    """A shown name can be told from every other one, and words that hold it can be shown once more."""
    assert not harmful(shown(text))
    assert "\n" not in shown(text)
    assert harmless(f"user {named(text)} is served") == f"user {named(text)} is served"


def _view(node: str) -> View:
    nodes = tuple(sorted({node, "n2"}))
    return View(nodes=("n2",), instances=nodes, shard_map=ShardMap("_users", ".1", {WHOLE_SPACE: nodes}))


def _plan_in_words(node: str) -> str:
    lease = Lease(node, "one", 3, version=node, address=node)
    peers = (Peer(lease, LeaseStatus.SILENT),)
    view = _view(node)
    observed = Observed(Attachment("n2", Feed.SHARD), view, peers, (lease,))
    return plan._in_words(whole_plan(view), observed)


def _owner_in_words(node: str) -> str:
    return owner._in_words(explain_owner("alice", _view(node), PREFIX, {node: "no lease"}))


@pytest.mark.parametrize("in_words", [_plan_in_words, _owner_in_words], ids=["plan", "owner"])
@pytest.mark.parametrize("node", ALL.values(), ids=ALL)
def test_a_node_s_name_steers_nothing(node: str, in_words: Callable[[str], str]) -> None:
    """A proxy can answer with any name of a node. It adds no line and no character that steers."""
    words = in_words(node)
    assert not harmful(words)
    assert words.count("\n") == in_words("a").count("\n")
    assert named(node) in words
