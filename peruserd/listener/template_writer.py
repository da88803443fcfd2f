"""Writing the documents and options of templates into one user's database.

`core.users.decision` decides whether to write, and `core.users.contents` what. Nothing here touches a security object.
"""

from typing import Protocol

import msgspec

from peruserd.core.processes.messages import ListenerStart
from peruserd.core.users.contents import (
    Contents,
    JudgedDocument,
    StoredDocument,
    TemplateStatus,
    judged,
    of_new_database,
    to_write,
)
from peruserd.core.users.facts import Database, Facts
from peruserd.core.users.steps import Ask, Step, WriteTemplates
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates
from peruserd.couch.client import Client
from peruserd.couch.copies import CopyOptions, Layout, open_layout
from peruserd.couch.journal import Journal
from peruserd.couch.observing import ReadContents
from peruserd.couch.template_record import TemplateRecord
from peruserd.couch.user_documents import UserDocuments


class Record(Protocol):
    """The versions of templates that were ever in force; see `couch.template_record`."""

    def earlier(self, document_id: str) -> tuple[Template, ...]:
        """Return all versions of a template; raises CouchError."""


class TemplateWriter:
    """Reads and writes the contents from templates. Any thread may call; every call can raise CouchError."""

    def __init__(
        self,
        documents: UserDocuments,
        options: CopyOptions,
        record: Record,
        templates: Templates = NO_TEMPLATES,
        *,
        overwrite: bool = False,
    ) -> None:
        self._documents = documents
        self._options = options
        self._record = record
        self._templates = templates
        self._overwrite = overwrite

    def first_facts(self, facts: Facts) -> Facts:
        """Return the facts with the settings for templates."""
        return msgspec.structs.replace(
            facts, templated=self._templates.fill_databases, overwrite=self._overwrite and facts.rollout
        )

    @staticmethod
    def takes(step: Step) -> bool:
        """Say whether a step concerns the contents from templates."""
        return step is Ask.CONTENTS or isinstance(step, WriteTemplates)

    def carry_out(self, step: Step, database: str, facts: Facts) -> Facts:
        """Read the contents of the database, or write what is due; return the facts afterwards."""
        return self._written(database, facts) if isinstance(step, WriteTemplates) else self._looked(database, facts)

    def _looked(self, database: str, facts: Facts) -> Facts:
        """Return the facts with the contents of the database; a database that this act has just made is empty."""
        is_new = facts.database in (Database.CREATED, Database.ACCEPTED) and not facts.template_writes
        contents = of_new_database(self._templates) if is_new else self.contents(facts.user, database)
        return msgspec.structs.replace(facts, contents=contents)

    def reader(self) -> ReadContents | None:
        """Return the function that reads contents; None where templates put nothing into databases."""
        return self.contents if self._templates.fill_databases else None

    def contents(self, user: str, database: str) -> Contents:
        """Return the contents of an existing database."""
        templates = self._templates
        found = self._documents.read(database, [each.id for each in templates.documents])
        return Contents(
            tuple(self._judged(each, found[each.id], user, database) for each in templates.documents),
            tuple(
                name
                for name, wanted in sorted(templates.options.items())
                if set(self._options.read(database, name)) != {wanted}
            ),
        )

    def _written(self, database: str, facts: Facts) -> Facts:
        """Write what is due; the contents of a database that existed before are read again afterwards."""
        contents = facts.contents or Contents()
        due = contents.due(overwrite=facts.overwrite)
        refusals: tuple[str, ...] = ()
        is_whole = facts.database in (Database.CREATED, Database.ACCEPTED)
        if due:
            written = self._documents.write(database, to_write(self._templates, due, facts.user, database))
            refusals = written.refusals
            is_whole &= written.agreed and not written.conflicts
        for name in contents.options:
            self._options.write(database, name, self._templates.options[name])
        return msgspec.structs.replace(
            facts,
            contents=Contents() if is_whole else None,
            template_writes=facts.template_writes + 1,
            refusals="; ".join(refusals),
        )

    def _judged(self, template: Template, found: StoredDocument, user: str, database: str) -> JudgedDocument:
        looked = judged(template, found, (), user, database)
        if looked.status is not TemplateStatus.CHANGED:
            return looked
        return judged(template, found, self._record.earlier(template.id), user, database)


def open_template_writer(
    client: Client, layout: Layout, cluster_database: str, templates: Templates, *, overwrite: bool = False
) -> TemplateWriter:
    """Return a template writer that uses this client, and the record of templates in peruserd's own database."""
    record = TemplateRecord(Journal(client.session, cluster_database))
    options = CopyOptions(client, layout)
    return TemplateWriter(UserDocuments(client.session), options, record, templates, overwrite=overwrite)


def template_writer_of(client: Client, start: ListenerStart) -> TemplateWriter:
    """Return the template writer of a listener."""
    layout = open_layout(client, start.copy.feed, start.copy.node, start.copy.database)
    return open_template_writer(client, layout, start.cluster_database, start.templates)
