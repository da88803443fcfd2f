"""The way of an event to its line: names replaced, repeats held back, and written to its place."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from structlog.typing import EventDict

from peruserd import threads
from peruserd.core.common.log_values import Limits, bounded
from peruserd.core.common.pseudonyms import Pseudonyms
from peruserd.core.common.repeats import Repeats
from peruserd.core.configuration.decoding import ConfigError
from peruserd.logs.audit_file import AuditFile
from peruserd.logs.output import Output
from peruserd.logs.rendering import Render, for_programs, with_error

AUDIT: Final = "audit"
"""The event of each write to a user's access."""

CANNOT_WRITE_AUDIT: Final = "audit lines cannot be written to their file, and are in the log"
"""What the log says then, before it has these lines."""

# Longer texts are cut before they are searched for names. What is left is cut once more to fit into a line.
_SEARCHED: Final = Limits(characters=65_536, items=1_000)


class Pipeline:
    """The last processor of structlog. All its settings can be changed between two lines.

    - `context` is in each line.
    - `prefix` is that of users' databases.
    - `left_out` are the levels whose lines are not written.
    """

    def __init__(self) -> None:
        self.context: dict[str, str] = {}
        self.prefix = ""
        self.left_out: frozenset[str] = frozenset()
        self.pseudonyms: Pseudonyms | None = None
        self.for_program = True
        self.render: Render = for_programs
        self.output = Output(None)
        self.audit_file: AuditFile | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a process that was just forked: without the timer, the locks and the counts of that one."""
        self._repeats = Repeats()
        # The same thread can come twice: Python runs the ends of objects anywhere, and they can fail.
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self.output.after_fork()
        if self.audit_file is not None:
            self.audit_file.after_fork()

    def begin(self, prefix: str, context: dict[str, str], output: Output) -> None:
        """Begin a log, which knows nothing of earlier lines."""
        self.prefix, self.context, self.output = prefix, context, output
        with self._lock:
            self._repeats = Repeats()
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def __call__(self, _logger: object, _method: str, event: EventDict) -> Any:
        """Write a line."""
        file = self.audit_file if event.get("event") == AUDIT else None
        if file is not None or event.get("level") not in self.left_out:
            line = self._line(event, for_program=self.for_program or file is not None)
            if file is None or not self._write_audit(file, line):
                self._write_unless_repeated(line)
        raise structlog.DropEvent

    def write_audit_to(self, path: str | None) -> None:
        """Write audit lines to a file of their own from now on, or into the log. The file is opened later."""
        before = self.audit_file
        if before is None or before.path != path:
            self.audit_file = None if path is None else AuditFile(path)
            if before is not None:
                before.close()

    def say_rest(self) -> None:
        """Write how often lines were held back until now, because the process ends."""
        with self._lock:
            rest = list(self._repeats.rest())
        self._write_counts(rest)

    def _line(self, event: EventDict, *, for_program: bool) -> Mapping[str, object]:
        try:
            line: Any = bounded(with_error({**self.context, **event}, for_program=for_program), _SEARCHED)
            pseudonyms = self.pseudonyms
            return line if pseudonyms is None else pseudonyms.in_place_of_names(line)
        except Exception as error:  # noqa: BLE001 - the values are anybody's, and to log must never end a thread
            head = {key: event[key] for key in ("timestamp", "level", "event") if key in event}
            return {**head, **self.context, "left_out": f"the values cannot be shown: {type(error).__name__}"}

    def _write_audit(self, file: AuditFile, line: Mapping[str, object]) -> bool:
        """Write a line to the audit's own file; return whether it is there."""
        try:
            # To wait for a disk that hangs is no fault of this thread, and a restart would wait for it as well.
            with threads.WAITING:
                file.write_line(for_programs({**line}))
        except (OSError, ConfigError) as error:
            # The error of an opening names the path.
            self._write_unless_repeated(self._own(CANNOT_WRITE_AUDIT, file=file.path, error=str(error)))
            return False
        return True

    def _write_unless_repeated(self, line: Mapping[str, object]) -> None:
        now = time.monotonic()
        with self._lock:
            counts = list(self._repeats.due(now))
            is_admitted = self._repeats.admits(line, now)
        self._write_counts(counts)
        if is_admitted:
            self._write(line)
        else:
            self._time()

    def _write_counts(self, counts: list[Mapping[str, object]]) -> None:
        for each in counts:
            head = {"timestamp": _now(), "level": each["level"], "event": each["event"]}
            self._write({**head, **self.context, **each})

    def _write(self, line: Mapping[str, object]) -> None:
        words = "log lines could not be written, and are lost"
        self.output.write_line(self.render({**line}), lambda lost: self.render({**self._own(words, lines=lost)}))

    def _own(self, words: str, **values: object) -> dict[str, object]:
        return {"timestamp": _now(), "level": "warning", "event": words, **self.context, **values}

    def _time(self) -> None:
        """Let a timer write what is due, because no other line may come for a long time."""
        with self._lock:
            due = self._repeats.next_due
            if due is None or self._timer is not None:
                return
            timer = self._timer = threading.Timer(max(0.0, due - time.monotonic()), self._on_time)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            # No thread can be started now. The next line writes what is due.
            self._timer = None

    def _on_time(self) -> None:
        with self._lock:
            self._timer = None
            counts = list(self._repeats.due(time.monotonic()))
        self._write_counts(counts)
        self._time()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
