"""The counts of the quarantine."""

import msgspec

from peruserd.core.scheduling import kept_users
from peruserd.core.scheduling.kept_users import KeptUsers
from peruserd.core.users.quarantine import Advice, Failure, Quarantined


class Ward:
    """A quarantine with its counts."""

    def __init__(self) -> None:
        self.kept: dict[str, Quarantined] = {}
        self.counts = KeptUsers(self.kept.get)

    def keep(self, name: str, since: float, kind: str = "timeout", advice: Advice = Advice.RETRY) -> None:
        """Put a user into quarantine, or give the user another entry."""
        before = self.kept.get(name)
        self.kept[name] = Quarantined(name, deleted=False, failure=Failure(kind, "", advice), failures=1, since=since)
        self.counts.note(before, self.kept[name])

    def release(self, name: str) -> None:
        """Take a user out of quarantine."""
        self.counts.note(self.kept.pop(name), None)


def test_users_are_counted_by_the_kind_of_their_last_failure() -> None:
    """A kind without a user has no count."""
    ward = Ward()
    ward.keep("ann", 10.0)
    ward.keep("bob", 11.0, "held", Advice.ASK_OPERATOR)
    ward.keep("ann", 10.0, "conflict")
    assert (ward.counts.total, ward.counts.permanent) == (2, 1)
    assert ward.counts.by_kind == {"conflict": 1, "held": 1}
    ward.release("bob")
    assert ward.counts.by_kind == {"conflict": 1}


def test_the_oldest_user_is_known_whoever_leaves() -> None:
    """Users leave in any order, and one who fails again later begins anew."""
    ward = Ward()
    for since, name in enumerate(("ann", "bob", "cid"), start=1):
        ward.keep(name, float(since))
    ward.release("bob")
    assert ward.counts.oldest_since == 1.0
    ward.release("ann")
    ward.keep("ann", 9.0)
    assert ward.counts.oldest_since == 3.0
    ward.release("cid")
    assert ward.counts.oldest_since == 9.0
    ward.release("ann")
    assert ward.counts.oldest_since is None


def test_a_user_who_fails_again_and_again_keeps_the_first_time() -> None:
    """Each failure is another entry with the time of the first one."""
    ward = Ward()
    for failures in range(1, 4):
        before = ward.kept.get("ann")
        ward.keep("ann", 5.0)
        ward.kept["ann"] = msgspec.structs.replace(ward.kept["ann"], failures=failures)
        assert (before is None) is (failures == 1)
    assert ward.counts.oldest_since == 5.0


def test_users_who_come_and_go_behind_one_who_stays_take_no_memory() -> None:
    """An enemy can have a hundred thousand users fail and leave, a thousand times."""
    ward = Ward()
    ward.keep("stays", 0.0)
    for number in range(3 * kept_users._SPARE):
        ward.keep("comes", float(number + 1))
        ward.release("comes")
    assert len(ward.counts._since) <= kept_users._SPARE + 4
    assert ward.counts.oldest_since == 0.0
