import msgspec
import pytest

from peruserd.core.cluster.draining import obstacle
from peruserd.core.cluster.leases import PROTOCOL, Lease, Role
from peruserd.core.cluster.views import View

VIEW = View(nodes=("n1", "n2", "n3"), instances=("n1", "n2"), shard_map=None, me="n1")
OTHER = Lease("n2", "other", 7, protocol=PROTOCOL)


def _view(**changes: object) -> View:
    return msgspec.structs.replace(VIEW, **changes)


def _other(**changes: object) -> Lease:
    return msgspec.structs.replace(OTHER, **changes)


def test_one_other_instance_is_enough() -> None:
    """It takes over at once."""
    assert obstacle(VIEW, [OTHER]) is None
    assert obstacle(VIEW, [OTHER, _other(node="n3", draining=True)]) is None


@pytest.mark.parametrize(
    "others",
    [
        [],
        [_other(role=Role.STANDBY)],
        [_other(draining=True)],
        [_other(node="n4")],
        [_other(node="n1")],
    ],
    ids=["alone", "only a standby", "all are told to", "not connected", "beside the same node"],
)
def test_where_nobody_can_take_over_the_order_can_only_be_noted(others: list[Lease]) -> None:
    """The users of this instance would wait until somebody came."""
    found = obstacle(VIEW, others)
    assert found is not None
    assert found.can_be_forced
    assert "no other instance" in found.why


def test_an_instance_of_an_older_version_is_named() -> None:
    """It believes that the users stay here, whatever the lease says."""
    found = obstacle(VIEW, [OTHER, _other(node="n3", protocol=0)])
    assert found is not None
    assert found.can_be_forced
    assert "n3" in found.why


@pytest.mark.parametrize("view", [None, _view(standby=True), _view(leases_readable=False)])
def test_what_is_not_known_cannot_be_forced(view: View | None) -> None:
    """Force does not help against not knowing who lives, and a standby has nothing to give up."""
    found = obstacle(view, [OTHER])
    assert found is not None
    assert not found.can_be_forced
