"""Trackers for tests, with the ordinary settings of a listener."""

from collections.abc import Callable
from typing import Any, Final

from peruserd.core.feed.progress import OnDisk
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.scheduling.listener_state import ListenerState
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener.change_tracker import ChangeTracker

RECALL_SECONDS: Final = 30.0

_ORDINARY: Final[dict[str, Any]] = {
    "upcoming": None,
    "new_per_minute": 0,
    "nodes": (),
    "cut_off": False,
    "resume_near": None,
    "recall_seconds": RECALL_SECONDS,
    "digest": "",
}


def make_tracker(
    *, ownership: Ownership, store: Any, instance: str = "me", wake: Callable[[], None] = lambda: None, **options: Any
) -> ChangeTracker:
    """Return a tracker; `share` is required, the other options have defaults."""
    # The clock of the tracker's own module, which a test may have set.
    now = vars(tracker_module)["time"].monotonic()
    saved, kept, doubts = store.load()
    # The order is fixed, because the steps of a model check must not depend on the hashes of texts.
    on_disk = OnDisk(saved, kept, sorted(doubts))
    return ChangeTracker(ListenerState(instance, ownership, on_disk, now=now, **_ORDINARY | options), store, wake)
