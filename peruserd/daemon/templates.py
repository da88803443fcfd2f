"""The templates of an instance: read from their directory, logged, and kept on record."""

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from peruserd.core.configuration.choices import Grant
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.configuration.problems import Problems, lasts
from peruserd.core.users.template_files import DOCUMENTS, MAX_BYTES, OPTIONS, SECURITY, read_templates
from peruserd.core.users.templates import NO_TEMPLATES, Templates
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.journal import Journal
from peruserd.couch.session import Session
from peruserd.couch.template_record import TemplateRecord
from peruserd.couch.tokens import Tokens
from peruserd.daemon.own_database import own_database_test
from peruserd.repeated_task import RepeatedTask
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.loop import Supervisor

_JSON: Final = ".json"

# The directory is for templates only. With more files than this the configuration names a wrong one.
_MAX_FILES: Final = 1_000

DESIGNS_CHANGEABLE: Final = (
    "design documents are put into databases whose users are their admins (security.grant), and can change them"
)

log = structlog.get_logger(__name__)


def load_templates(config: Config) -> Templates:
    """Return the configured templates; raises ConfigError with all mistakes at once.

    A file that cannot be read now raises TemporaryError.
    """
    if config.templates.directory is None:
        return NO_TEMPLATES
    top = Path(config.templates.directory)
    problems = Problems()
    files: dict[str, bytes] = {}
    found = _entries(top, problems)
    # A dangling link is a mistake. It must not count as a directory that is simply not there.
    documents = _entries(top / DOCUMENTS, problems) if top / DOCUMENTS in found else []
    for path in [*found, *documents]:
        name = str(path.relative_to(top))
        is_document = path.parent != top and path.suffix == _JSON
        if name == DOCUMENTS:
            continue
        if not is_document and name not in (SECURITY, OPTIONS):
            problem = (
                f"templates.directory: {path}: not known here; allowed are {DOCUMENTS}/*{_JSON}, {SECURITY}, "
                f"{OPTIONS}, and names that begin with a dot, which are passed over"
            )
            problems.add(problem, lasts=True)
        elif (content := _content(path, problems)) is not None:
            files[name] = content
    try:
        templates = read_templates(files, str(top), partitioned=config.databases.partitioned)
    except ConfigError as error:
        problems.add_from(error)
    problems.raise_any()
    return templates


def _entries(directory: Path, problems: Problems) -> list[Path]:
    """Return the entries of a directory, sorted, without hidden names: a mounted volume of Kubernetes has some."""
    try:
        found = sorted(each for each in directory.iterdir() if not each.name.startswith("."))
    except OSError as error:
        problems.add(f"templates.directory: {directory}: cannot be read: {error.strerror}", lasts=lasts(error))
        return []
    if len(found) > _MAX_FILES:
        problem = f"templates.directory: {directory}: found {len(found):,} files, allowed are {_MAX_FILES:,}"
        problems.add(problem, lasts=True)
        return []
    return found


def _content(path: Path, problems: Problems) -> bytes | None:
    """Return the content of a file; at most one byte more than allowed."""
    try:
        # If the path is not a file but a pipe, for example, opening or reading it could wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(MAX_BYTES + 1)
            problems.add(f"templates.directory: {path}: not a file", lasts=True)
    except OSError as error:
        problems.add(f"templates.directory: {path}: cannot be read: {error.strerror}", lasts=lasts(error))
    return None


def log_templates(templates: Templates, config: Config) -> None:
    """Log the templates that are put into databases."""
    if templates == NO_TEMPLATES:
        return
    log.info(
        "templates",
        directory=config.templates.directory,
        documents=len(templates.documents),
        options=len(templates.options),
        digest=templates.digest,
    )
    if templates.designs and config.security.grant is Grant.ADMIN:
        log.warning(DESIGNS_CHANGEABLE, designs=list(templates.designs))


class TemplateKeeper:
    """Puts the templates in force on record, each version in a thread of its own, which ends when that is done.

    No other part waits for that. If a version never comes on record, a later rollout only keeps its documents.
    """

    def __init__(
        self,
        session: Session,
        record: TemplateRecord,
        templates: Templates,
        *,
        is_usable: Callable[[], bool],
        interval_seconds: float,
    ) -> None:
        self._session = session
        self._record = record
        self._templates = templates
        self._is_usable = is_usable
        self._interval = interval_seconds
        self._logged_kind: str | None = None
        self._tasks: list[RepeatedTask] = []

    def start(self) -> None:
        """Put the templates of the start on record."""
        self.keep(self._templates)

    def keep(self, templates: Templates) -> None:
        """Put templates on record, if they have documents; returns at once."""
        if templates.documents:
            self._tasks.append(RepeatedTask("template-keeper", partial(self._turn, templates), may_end=True))
            self._tasks[-1].start()

    def stop(self) -> None:
        """Stop trying."""
        for each in self._tasks:
            each.stop()
        # Each write is complete in itself, so `stop` does not wait for the thread.
        self._session.interrupt()

    def _turn(self, templates: Templates) -> float | None:
        try:
            if self._is_usable():
                written = self._record.keep(templates)
                log.info("templates are on record", new=written, digest=templates.digest)
                return None
        except InterruptedRequestError:
            return None
        except CouchError as error:
            if error.kind != self._logged_kind:
                log.warning("templates cannot be put on record yet", kind=error.kind, error=str(error))
            self._logged_kind = error.kind
        return self._interval


def keep_templates(
    config: Config, templates: Templates, tokens: Tokens, cluster_reader: ClusterReader, supervisor: Supervisor
) -> TemplateKeeper:
    """Return the template keeper of an instance."""
    session = Session(config.couchdb, tokens)
    return TemplateKeeper(
        session,
        TemplateRecord(Journal(session, config.cluster.database)),
        templates,
        is_usable=own_database_test(config, session, cluster_reader, supervisor),
        interval_seconds=config.cluster.poll_interval,
    )
