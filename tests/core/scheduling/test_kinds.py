"""The kinds of failure that an operator can ask for, compared with all kinds in the program."""

import ast
from collections.abc import Iterator
from pathlib import Path

import peruserd
from peruserd.core.users.quarantine import KINDS, OF_THE_CLUSTER, RESTLESS_DATABASE, UNCONFIRMED, UNSERVABLE_NAME
from peruserd.couch import errors
from peruserd.listener import dropping

ROOT = Path(peruserd.__file__).parent

# Kinds that put no user into quarantine. Nothing is kept for such a name, and a request that this side ended is no
# user's failure.
NEVER_KEPT = {UNSERVABLE_NAME, "error", "interrupted"}


def _named() -> Iterator[str]:
    """Each kind that is written into a failure somewhere in the program."""
    constants = {
        "RESTLESS_DATABASE": RESTLESS_DATABASE,
        "UNCONFIRMED": UNCONFIRMED,
        "UNSERVABLE_NAME": UNSERVABLE_NAME,
    }
    for file in ROOT.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        # To parse all sources takes long, and a call of that name cannot do without it.
        if "Failure" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Failure":
                match node.args[:1]:
                    case [ast.Constant(value=str(kind))]:
                        yield kind
                    case [ast.Name(id=name)]:
                        yield constants[name]


def _raised(kind: type[errors.CouchError]) -> Iterator[str]:
    """Each kind of an error that a request for a user can end with: the client's own, and the listener's."""
    if kind.__module__ in (errors.__name__, dropping.__name__):
        yield kind.kind
        for each in kind.__subclasses__():
            yield from _raised(each)


def test_every_kind_can_be_asked_for_and_has_a_meaning() -> None:
    """`peruserd quarantine --kind` knows all kinds and no other, and `show` explains each of them."""
    assert set(KINDS) == {*_named(), *_raised(errors.CouchError)} - NEVER_KEPT
    assert set(OF_THE_CLUSTER) < set(KINDS)


def test_the_documentation_explains_every_kind() -> None:
    """The words are the same as those of `show`."""
    page = (ROOT.parent / "docs" / "quarantine.md").read_text(encoding="utf-8")
    assert [
        f"| `{kind}` | {meaning} |" for kind, meaning in KINDS.items() if f"| `{kind}` | {meaning} |" not in page
    ] == []
