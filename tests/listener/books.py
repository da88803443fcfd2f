"""How tests make a ledger: with what a listener is started with when nothing special is going on."""

from collections.abc import Callable
from typing import Any, Final

from peruserd.core.listening import Listening
from peruserd.core.ownership import Ownership
from peruserd.core.progress import OnDisk
from peruserd.listener import ledger as ledger_module
from peruserd.listener.ledger import Ledger

RECALL_SECONDS: Final = 30.0

_ORDINARY: Final[dict[str, Any]] = {
    "coming": None,
    "new_per_minute": 0,
    "nodes": (),
    "cut_off": False,
    "begin_near": None,
    "recall_seconds": RECALL_SECONDS,
    "digest": "",
}


def make_ledger(
    *, ownership: Ownership, store: Any, instance: str = "me", wake: Callable[[], None] = lambda: None, **options: Any
) -> Ledger:
    """Return a ledger; `share` must be given, the rest of the options can be."""
    # The clock of the ledger's own module, which a test may have set.
    now = ledger_module.time.monotonic()
    saved, kept, doubts = store.load()
    # In one order, whatever it is: what a model check does must not depend on the hashes of texts.
    on_disk = OnDisk(saved, kept, sorted(doubts))
    return Ledger(Listening(instance, ownership, on_disk, now=now, **_ORDINARY | options), store, wake)
