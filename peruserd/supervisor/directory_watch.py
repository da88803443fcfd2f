"""The directory watch: a thread that follows a node's list of databases, and reports each change at once.

Two kinds of changes matter:

- The shard map of a database on which the instance itself depends, as at the split of a range. From that moment new
  documents go to the copies in the new map. No instance listens to these copies until its cluster watch has read the
  cluster again. Without the directory watch that would happen one interval later.
- A user's database was created, created again or deleted. Its owner looks at that user. Once all looks are over, the
  place in the list is written to disk, and a restart goes on from there. If it cannot, the names of all users'
  databases are compared with the databases that exist.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from peruserd.core.cluster.directory import Mark
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError, UnreachableError
from peruserd.couch.sources import LONG_POLL_SECONDS, DirectorySource
from peruserd.repeated_task import RepeatedTask
from peruserd.supervisor.directory_reader import DirectoryReader, NewsLooks
from peruserd.supervisor.files import write_whole
from peruserd.supervisor.pausing import Pauses
from peruserd.supervisor.state_writes import Put

# The pause between two polls. The list has the maps of all databases, so it grows by many rows a second while many
# users sign up. For 500 users at once, polls twice a second made up some 7 % of the work of three nodes (counted in
# Erlang's reductions). Polls once a second cost half of that.
_MIN_SECONDS: Final = 1.0

# A server that seemed to have no shards can turn out to have some: a proxy hid them.
_NO_SHARDS_SECONDS: Final = 10.0

# The time between two writes of the place. After a crash the looks of this time are repeated.
_SAVE_SECONDS: Final = 5.0

# Two failures in a row count as a break of the connection to the node. The second try follows at once, so a restart of
# the node cannot fall between the two. One failure alone can be a proxy's.
_BREAK: Final = 2
_ONCE_MORE_SECONDS: Final = 0.1

_FILE: Final = "directory.json"

log = structlog.get_logger(__name__)


class DirectoryWatch:
    """Follows the list of the node that `node` returns; calls `on_change` of a database once its shard map was written.

    - `node` raises CouchError while the node is unknown. It returns None while there are no shards, and so nothing to
      watch.
    - The client's session belongs to this watch alone, so `stop` can interrupt it.
    - The place in the list is kept in `directory`. `put` has it written.
    - `on_break` is called when the node cannot be reached: the open long poll failed, and so did the next try.
    """

    def __init__(
        self,
        client: Client,
        *,
        node: Callable[[], str | None],
        on_change: Mapping[str, Callable[[], None]],
        prefix: str,
        looks: NewsLooks,
        directory: Path,
        put: Put,
        on_break: Callable[[], None],
        long_poll_seconds: float = LONG_POLL_SECONDS,
    ) -> None:
        self._client = client
        self._node = node
        self._looks = looks
        self._file = directory / _FILE
        self._put = put
        self._on_break = on_break
        self._long_poll_seconds = long_poll_seconds
        # The list that is followed, and how far it was read; None before the first reading and after a failure.
        self._following: tuple[DirectorySource, Mark] | None = None
        self._task = RepeatedTask("directory-watch", self._turn)
        self._saved = _read(self._file)
        self._reader = DirectoryReader(self._saved, on_change=on_change, prefix=prefix, looks=looks)
        self._save_at = 0.0
        self.failures = 0
        self._pauses = Pauses()

    def start(self) -> None:
        """Begin to watch."""
        self._task.start()

    @property
    def place(self) -> Mark | None:
        """Return how far this process, or an earlier one, has read the list; for any thread."""
        return self._reader.mark

    def stop(self) -> None:
        """End the watch; returns once the thread has ended, or after the time that a part may take to end."""
        self._task.stop()
        self._client.session.interrupt()
        self._task.join()
        self._save()

    def _turn(self) -> float | None:
        """Begin to follow the list, or read it once; return the pause after that, None if this was interrupted."""
        try:
            return self._read_on()
        except InterruptedRequestError:
            return None
        except CouchError as error:
            return self._failed(error.kind, error)
        except Exception as error:
            self._failed("unforeseen", error)
            raise

    def _read_on(self) -> float:
        if self._following is None:
            if (node := self._node()) is None:
                return _NO_SHARDS_SECONDS
            source = DirectorySource(self._client, node, self._long_poll_seconds)
            self._following = source, self._reader.begin(source)
            return _MIN_SECONDS
        source, mark = self._following
        self._following = source, self._reader.read_on(source, mark)
        if self.failures:
            log.info("changes of databases can be waited for again", failures=self.failures)
            self.failures = 0
        if time.monotonic() >= self._save_at:
            self._save()
        return _MIN_SECONDS

    def _save(self) -> None:
        """Have the place written to disk up to which all looks are over."""
        mark = self._looks.seen_to
        if mark is None or mark == self._saved:
            return
        self._save_at = time.monotonic() + _SAVE_SECONDS
        self._put(_FILE, partial(self._write, mark))
        self._saved = mark

    def _write(self, mark: Mark) -> None:
        try:
            write_whole(self._file, msgspec.json.encode(mark))
        except OSError as error:
            log.warning("the next start will compare the names of all users' databases", error=str(error))

    def _failed(self, kind: str, error: Exception) -> float:
        self._following = None
        self.failures += 1
        if self.failures == 1:
            log.info("changes of databases cannot be waited for", kind=kind, error=str(error))
        if self.failures == _BREAK:
            self._on_break()
        if self.failures < _BREAK and isinstance(error, UnreachableError):
            return _ONCE_MORE_SECONDS
        return self._pauses.after(error, self.failures)


def _read(file: Path) -> Mark | None:
    """Return the stored mark; None if none can be read. In that case all names are compared."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Mark)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("it is not known how far the list of databases was read", file=file.name, error=str(error))
        return None
