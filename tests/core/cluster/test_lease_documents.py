"""Documents that count as leases, and others that somebody may have written beside them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.lease_documents import FIRST_ID, LAST_ID, LeaseRow, lease_id, read_leases
from peruserd.core.cluster.leases import Lease, Role

LEASE = Lease("n1@host", "i1", 7, version="1.0", address="127.0.0.1:9984", digest="abc")


def _row(lease: Lease | dict[str, Any], id_: str | None = None) -> LeaseRow:
    content = msgspec.to_builtins(lease)
    role = Role.STANDBY if content.get("role") == "standby" else Role.ACTIVE
    return LeaseRow(id_ or lease_id(str(content.get("node")), role), msgspec.Raw(msgspec.json.encode(content)))


@pytest.mark.parametrize("role", list(Role))
def test_a_lease_is_read_as_it_was_written(role: Role) -> None:
    """Each role of a node has an id of its own, within what is listed."""
    lease = msgspec.structs.replace(LEASE, role=role)
    assert read_leases([_row(lease)]) == (lease,)
    assert FIRST_ID <= lease_id("", role) <= lease_id("\uffff", role) <= LAST_ID


def test_fields_of_a_version_to_come_are_passed_over() -> None:
    """The known fields of a later version's lease count."""
    assert read_leases([_row(msgspec.to_builtins(LEASE) | {"mood": {"deep": [1]}})]) == (LEASE,)


@pytest.mark.parametrize(
    "lie",
    [
        {"node": ""},
        {"node": "n" * 256},
        {"node": "n1\x1b[2J"},
        {"incarnation": ""},
        {"incarnation": "i" * 65},
        {"incarnation": "i\n"},
        {"replaces": ""},
        {"replaces": "\x00"},
        {"counter": -1},
        {"counter": 1 << 60},
        {"counter": 1 << 70},
        {"counter": "7"},
        {"breaks": -1},
        {"role": "king"},
        {"more": "x" * 5000},
    ],
    ids=str,
)
def test_what_is_no_lease_is_passed_over(lie: dict[str, Any]) -> None:
    """A document that is no lease hides no other lease."""
    other = msgspec.structs.replace(LEASE, node="n2@host", incarnation="i2")
    assert read_leases([_row(msgspec.to_builtins(LEASE) | lie), _row(other)]) == (other,)


@pytest.mark.parametrize("id_", ["_local/peruserd.active.n2@host", "_local/peruserd.standby.n1@host", "_local/x", ""])
def test_a_lease_under_anothers_id_is_none(id_: str) -> None:
    """Each node has two documents, so their number is bounded by the nodes."""
    assert read_leases([_row(LEASE, id_ or "_local/")]) == ()


# As deep as the bound on a lease's size lets it be, and deeper than a decoder follows.
DEEP = b'{"node": "n1@host", "more": ' + b"[" * 2_000 + b"]" * 2_000 + b"}"


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"null", b'"\\ud800"', b"\xff", DEEP])
def test_rows_that_say_nothing_are_no_leases(document: bytes) -> None:
    """A row can be without a document, or with one that cannot be read."""
    assert read_leases([LeaseRow("_local/peruserd.active.n1@host", msgspec.Raw(document))]) == ()


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=400))
def test_nothing_that_is_shown_can_command_a_terminal(text: str) -> None:
    """Version, address and digest are shown. Each is cut, and unprintable characters are replaced."""
    for field in ("version", "address", "digest"):
        (lease,) = read_leases([_row(msgspec.structs.replace(LEASE, **{field: text}))])
        shown = getattr(lease, field)
        assert shown.isprintable()
        assert len(shown) <= 255
        assert lease.counter == LEASE.counter
