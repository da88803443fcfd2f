"""The messages of the control socket, as programs of other versions read them."""

import json

from peruserd.core.processes.control import Quarantine, decode_order, encode_line
from peruserd.core.users.inquiries import QuarantineAction


def test_the_action_on_the_quarantine_keeps_its_name_on_the_socket() -> None:
    """A command and a daemon of different versions understand each other."""
    order = Quarantine(QuarantineAction.RETRY, ("ann",), "held")
    line = encode_line(order)
    assert json.loads(line) == {"type": "quarantine", "wish": "retry", "users": ["ann"], "kind": "held"}
    assert decode_order(line) == order
