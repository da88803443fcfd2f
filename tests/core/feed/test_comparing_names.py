"""A comparison of names that is owed is made, whatever happens to the owners meanwhile."""

from peruserd.core.feed.changes import Change
from peruserd.core.feed.intake import Intake
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, SavedProgress
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap

SHARD_MAP = ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")})
ALONE = Ownership.of(SHARD_MAP, WHOLE_SPACE, ["n1"])
BOTH = Ownership.of(SHARD_MAP, WHOLE_SPACE, ["n1", "n2"])


def test_a_comparison_goes_on_when_documents_are_lost() -> None:
    """Another instance takes some users over; the names of the others are still compared."""
    intake = Intake("n1", ALONE, SavedProgress("copy", 50, ALONE, covered=(ALONE,)), None, "")
    intake.open(Identity("copy", 100))
    intake.owe_names()
    assert intake.is_scanning
    intake.change_owner(BOTH)
    assert intake.is_scanning
    assert intake.progress is not None
    assert intake.progress.scan is not None
    assert intake.progress.scan.names


def test_a_scan_under_way_looks_again_at_users_it_has_served() -> None:
    """Their databases can be deleted between that and the request for a comparison. The scan does both."""
    intake = Intake("n1", ALONE, None, None, "")
    intake.open(Identity("copy", 100))
    intake.served(Change("org.couchdb.user:a", deleted=False, lane=Lane.SCAN, read_at=0.0))
    task = intake.scan_task
    assert task is not None
    assert "org.couchdb.user:a" in task.served
    intake.owe_names()
    assert "org.couchdb.user:a" not in task.served
