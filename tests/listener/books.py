"""How tests make a ledger: with what a listener is started with when nothing special is going on."""

from typing import Any, Final

from peruserd.listener.ledger import Ledger

RECALL_SECONDS: Final = 30.0

_ORDINARY: Final[dict[str, Any]] = {
    "instance": "me",
    "coming": None,
    "begin_near": None,
    "recall_seconds": RECALL_SECONDS,
    "wake": lambda: None,
}


def make_ledger(**options: Any) -> Ledger:
    """Return a ledger; `ownership`, `share` and `store` must be given, the rest can be."""
    return Ledger(**_ORDINARY | options)
