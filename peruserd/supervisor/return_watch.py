"""The return watch: once a node is back, it asks for looks at all users whose databases the node may have missed.

It runs in the cluster watch's thread after each view, so it notices a return at once. `core.cluster.absences` says from
which place the list of databases must be read again. While a node is away, these places are on disk, so a restart does
not lose them.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from peruserd.core.cluster.absences import Absences
from peruserd.core.cluster.directory import Mark, news_of
from peruserd.core.cluster.leases import Breaks
from peruserd.core.cluster.views import View
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.sources import DirectorySource
from peruserd.supervisor.files import write_whole
from peruserd.supervisor.start_watch import StartWatch
from peruserd.supervisor.state_writes import Put

# The cluster watch has other work too. So at most this many pages of a thousand rows are read; the rest follows after
# the next view.
_MAX_PAGES: Final = 10

_FILE: Final = "absences.json"

log = structlog.get_logger(__name__)


class ReturnLooks(Protocol):
    """Lets listeners look at users; `supervisor.loop` does. Its methods return at once."""

    def look_on_return(self, node: str, document_ids: Iterable[str]) -> int | None:
        """Ask for looks because a node is back; return their number.

        Returns None if the listeners have not heard yet that the node is back, because their looks could miss its
        copies.
        """

    @property
    def has_ranges(self) -> bool:
        """Say whether there are listeners, or may soon be some. A node counts as missed until some have looked."""

    @property
    def looked_to(self) -> int:
        """Return the number up to which all looks are over."""


class ReturnWatch:
    """Follows the views of one instance. `node` returns the node whose list of databases is read; None without shards.

    `place` returns how far the directory watch has read that list; the cluster watch's thread calls it. `put` has the
    places written to `directory`.
    """

    def __init__(
        self,
        client: Client,
        *,
        node: Callable[[], str | None],
        place: Callable[[], Mark | None],
        prefix: str,
        looks: ReturnLooks,
        directory: Path,
        put: Put,
    ) -> None:
        self._client = client
        self._node = node
        self._place = place
        self._prefix = prefix
        self._looks = looks
        self._starts = StartWatch(client)
        self._started: tuple[Breaks, ...] = ()
        self._file = directory / _FILE
        self._put = put
        self._saved = _read(self._file)
        self._save_failed = False
        self._failed = False
        self._absences = Absences(self._saved, place())

    def on_view(self, view: View) -> None:
        """Note which nodes are connected now, and ask for looks for each node that is back."""
        hosts = () if view.shard_map is None else view.shard_map.hosts.values()
        hosting = {node for each in hosts for node in each}
        breaks = (*view.breaks, *self._started)
        self._absences.observe(view.nodes, hosting, self._place(), time.monotonic(), breaks)
        self._absences.seen_to(self._looks.looked_to)
        self._save()
        try:
            node = self._node()
            self._started = () if node is None else self._starts.ask_next(view, hosting)
            if node is not None and self._looks.has_ranges:
                self._read_again(DirectorySource(self._client, node))
        except InterruptedRequestError:
            return
        except CouchError as error:
            # The next view comes soon, and the reading goes on then.
            log.info("it cannot be read what a node has missed", kind=error.kind, error=str(error))
        except Exception:
            # The view is in force already, and only the looks for returned nodes fail. The cluster watch must not
            # slow down.
            if not self._failed:
                log.exception("unforeseen failure of the return watch")
            self._failed = True
        else:
            self._failed = False

    def _read_again(self, source: DirectorySource) -> None:
        for _ in range(_MAX_PAGES):
            if (reading := self._absences.next_reading()) is None:
                return
            returned, since = reading
            page = source.page(since.sequence)
            news = news_of(page.results, self._prefix)
            asked = self._looks.look_on_return(returned, (*news.made, *news.changed))
            if asked is None:
                return
            log.info("users are looked at, because a node is back", node=returned, users=len(news.made + news.changed))
            place = msgspec.structs.replace(since, sequence=page.last_seq)
            self._absences.read(returned, place, asked, to_end=page.is_last)

    def _save(self) -> None:
        kept = self._absences.kept
        if kept == self._saved:
            self._save_failed = False
            return
        self._put(_FILE, partial(self._write, dict(kept)))

    def _write(self, kept: dict[str, Mark]) -> None:
        try:
            write_whole(self._file, msgspec.json.encode(kept))
        except OSError as error:
            # The next view tries again.
            if not self._save_failed:
                log.warning("a restart would not know what absent nodes have missed", error=str(error))
            self._save_failed = True
            return
        self._saved, self._save_failed = kept, False


def _read(file: Path) -> dict[str, Mark]:
    """Return the stored places, by node. If they cannot be read there are none, and the audit finds what was missed."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Mark])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("it is not known what absent nodes have missed", file=file.name, error=str(error))
        return {}
