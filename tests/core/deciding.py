"""A small world in memory, in which decisions are carried out: copies, a document, and reachable nodes."""

from collections.abc import Callable
from typing import Any

import msgspec

from peruserd.core.users import security
from peruserd.core.users.contents import Contents, JudgedDocument, TemplateStatus
from peruserd.core.users.decision import decide
from peruserd.core.users.evidence import DocumentState, Verdict
from peruserd.core.users.facts import CopyReading, Database, Facts, Hint
from peruserd.core.users.security import Security
from peruserd.core.users.steps import Ask, Create, Step, Write, WriteEach, WriteTemplates

USER = "alice"
FRESH: Security = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
GRANTED = security.first(USER)
REVOKED = security.revoke(GRANTED, USER)
PARTNERS: Security = {
    "members": {"names": ["bob", USER], "roles": ["staff"]},
    "admins": {"names": [USER], "roles": ["_admin"]},
    "proxy": {"a": 1},
}
NODES = ("node1", "node2", "node3")


class World:
    """One user's database and document. `copies` is None where there is no database.

    Copies that are `lost` have no file, and a write to all makes them again. `admits` is the operator's word on a user
    who came back.
    """

    def __init__(
        self,
        copies: list[Security] | None,
        document: DocumentState,
        *,
        away: frozenset[int] = frozenset(),
        lost: frozenset[int] = frozenset(),
        admits: bool = False,
    ) -> None:
        self.copies = copies
        self.document = document
        self.away = away
        self.lost = lost
        self.deleted_by_others = False
        self.admits = admits
        self.after_write: Callable[[World], None] = lambda _world: None
        self.after_confirmation: Callable[[World], None] = lambda _world: None
        self.steps: list[Step] = []
        # Documents of templates by their id, as they stand; what is refused, and what happens at each write of them.
        self.documents: dict[str, TemplateStatus] = {}
        self.refusing = ""
        self.after_template_write: Callable[[World], None] = lambda _world: None

    def act(self, facts: Facts) -> Step:
        """Carry out the steps of one act; return the last one."""
        for _ in range(40):
            step = decide(facts)
            self.steps.append(step)
            match step:
                case Ask.DOCUMENT:
                    self.after_confirmation(self)
                    facts = facts.confirmed(Verdict(self.document, "1-a"))
                case Ask.GLANCE:
                    facts = having(facts, glance=self.readable()[0])
                case Ask.COPIES:
                    facts = self.look(facts)
                case Ask.REMOVAL:
                    facts = having(facts, deleted_by_others=self.deleted_by_others)
                case Ask.ADMISSION:
                    facts = having(facts, admitted=self.admits)
                case Ask.CONTENTS | WriteTemplates():
                    facts = (
                        self._write_templates(facts) if isinstance(step, WriteTemplates) else self._look_inside(facts)
                    )
                case Create():
                    facts = self._create(facts)
                case Write() | WriteEach():
                    self._write(step)
                    facts = self.look(having(facts, written=facts.written + 1))
                case _:
                    return step
        raise AssertionError("the act does not come to its end")

    def _create(self, facts: Facts) -> Facts:
        if self.copies is not None:
            return having(facts, database=Database.THERE)
        self.copies = [FRESH] * len(NODES)
        return having(facts, database=Database.CREATED)

    def _look_inside(self, facts: Facts) -> Facts:
        looked = tuple(JudgedDocument(name, standing) for name, standing in self.documents.items())
        return having(facts, contents=Contents(looked))

    def _write_templates(self, facts: Facts) -> Facts:
        if not self.refusing:
            assert facts.contents is not None
            for each in facts.contents.due(overwrite=facts.overwrite):
                self.documents[each.id] = TemplateStatus.CURRENT
        self.after_template_write(self)
        return having(facts, contents=None, template_writes=facts.template_writes + 1, refusals=self.refusing)

    def look(self, facts: Facts) -> Facts:
        """Read the copies that can be read."""
        if self.copies is None:
            return having(facts, database=Database.ABSENT)
        readings = tuple(
            CopyReading(node, None if place in self.away | self.lost else found, lost=place in self.lost)
            for place, (node, found) in enumerate(zip(NODES, self.copies, strict=True))
        )
        known = facts.database if facts.database is not Database.UNKNOWN else Database.THERE
        return having(facts, copies=readings, database=known)

    def _write(self, step: Write | WriteEach) -> None:
        everywhere = range(len(NODES))
        changed = dict.fromkeys(everywhere, step.security) if isinstance(step, Write) else dict(step.securities)
        if isinstance(step, Write):
            self.lost = frozenset()
        assert self.copies is not None
        for place, wanted in changed.items():
            if place not in self.away:
                self.copies[place] = wanted
        self.after_write(self)

    def readable(self) -> list[Security]:
        """Return the security objects of the copies that can be read."""
        return [found for place, found in enumerate(self.copies or []) if place not in self.away]


def having(facts: Facts, **changes: Any) -> Facts:
    """Return the facts with some of them changed."""
    return msgspec.structs.replace(facts, **changes)


def known(hint: Hint, **more: Any) -> Facts:
    """Return what is known of the user before anybody looked."""
    return Facts(USER, hint, **more)
