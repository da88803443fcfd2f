"""The templates of an instance: read from their directory, told of, and kept on record."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from peruserd.core.configuration.config import Config, Grant
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.users.template_files import DOCUMENTS, MAX_BYTES, OPTIONS, SECURITY, read_templates
from peruserd.core.users.templates import NO_TEMPLATES, Templates
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.journal import Journal
from peruserd.couch.session import Session
from peruserd.couch.template_record import TemplateRecord
from peruserd.couch.tokens import Tokens
from peruserd.daemon.own_database import own_database_test
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.watcher import ClusterReader

_JSON: Final = ".json"

# The directory is for templates alone, so a directory that is full of other things is a mistake.
_MAX_FILES: Final = 1_000

DESIGNS_CHANGEABLE: Final = (
    "design documents are put into databases whose users are their admins (security.grant), and can change them"
)

log = structlog.get_logger(__name__)


def load_templates(config: Config) -> Templates:
    """Return the templates that are configured; raises ConfigError with every mistake that is found."""
    if config.templates.directory is None:
        return NO_TEMPLATES
    top = Path(config.templates.directory)
    problems: list[str] = []
    files: dict[str, bytes] = {}
    found = _entries(top, problems)
    # A link that leads nowhere is there, and must not pass for a directory that nobody wants.
    documents = _entries(top / DOCUMENTS, problems) if top / DOCUMENTS in found else []
    for path in [*found, *documents]:
        name = str(path.relative_to(top))
        is_document = path.parent != top and path.suffix == _JSON
        if name == DOCUMENTS:
            continue
        if not is_document and name not in (SECURITY, OPTIONS):
            problems.append(
                f"templates.directory: {path}: not known here; allowed are {DOCUMENTS}/*{_JSON}, {SECURITY}, "
                f"{OPTIONS}, and names that begin with a dot, which are passed over"
            )
        elif (content := _content(path, problems)) is not None:
            files[name] = content
    try:
        templates = read_templates(files, str(top), partitioned=config.databases.partitioned)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return templates


def _entries(directory: Path, problems: list[str]) -> list[Path]:
    """Return what is in a directory, sorted, without hidden names: a mounted volume of Kubernetes has some."""
    try:
        found = sorted(each for each in directory.iterdir() if not each.name.startswith("."))
    except OSError as error:
        problems.append(f"templates.directory: {directory}: cannot be read: {error.strerror}")
        return []
    if len(found) > _MAX_FILES:
        problems.append(f"templates.directory: {directory}: found {len(found):,} files, allowed are {_MAX_FILES:,}")
        return []
    return found


def _content(path: Path, problems: list[str]) -> bytes | None:
    """Return what is in a file, one byte more than is allowed at most."""
    try:
        # Something else than a file, such as a pipe, could be waited for without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(MAX_BYTES + 1)
            problems.append(f"templates.directory: {path}: not a file")
    except OSError as error:
        problems.append(f"templates.directory: {path}: cannot be read: {error.strerror}")
    return None


def log_templates(templates: Templates, config: Config) -> None:
    """Write into the log what is put into databases."""
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
    """Puts the templates in force on record, from a thread of its own that ends when they are there.

    Nobody waits for that: a version that never came on record only makes a later rollout keep what it put in.
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
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="template-keeper", daemon=True)

    def start(self) -> None:
        """Begin to try."""
        if self._templates.documents:
            self._thread.start()

    def stop(self) -> None:
        """Try no more."""
        self._stopping.set()
        # Nothing of it is half done at any moment, so its end is not waited for.
        self._session.interrupt()

    def _run(self) -> None:
        told: str | None = None
        while not self._stopping.is_set():
            try:
                if self._is_usable():
                    written = self._record.keep(self._templates)
                    log.info("templates are on record", new=written, digest=self._templates.digest)
                    return
            except InterruptedRequestError:
                return
            except CouchError as error:
                if error.kind != told:
                    log.warning("templates cannot be put on record yet", kind=error.kind, error=str(error))
                told = error.kind
            except Exception:
                log.exception("templates could not be put on record")
            self._stopping.wait(self._interval)


def keep_templates(
    config: Config, templates: Templates, tokens: Tokens, cluster_reader: ClusterReader, supervisor: Supervisor
) -> TemplateKeeper:
    """Return the keeper of an instance."""
    session = Session(config.couchdb, tokens)
    return TemplateKeeper(
        session,
        TemplateRecord(Journal(session, config.cluster.database)),
        templates,
        is_usable=own_database_test(config, session, cluster_reader, supervisor),
        interval_seconds=config.cluster.poll_interval,
    )
