"""The instance's HTTP pages: /metrics for Prometheus, /healthz and /readyz for supervisors and load balancers.

`daemon.health` says when an instance is healthy or ready, `daemon.status_page` shows the status, and
`daemon.users_page` answers `/users/{name}`. Every other path is 404: the port only reads, and the pages are few on
purpose.
"""

import errno
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import disable_created_metrics

from peruserd.core.common.http_head import Head
from peruserd.core.configuration.config import HTTPConfig
from peruserd.core.configuration.decoding import ConfigError, split_address, split_hosts
from peruserd.core.configuration.problems import TemporaryError
from peruserd.daemon.collecting import Encode, Exposition, GuardedCollector, Source
from peruserd.daemon.http_messages import JSON, OK, PLAIN, Answer, Request, in_words
from peruserd.daemon.http_server import HTTPServer
from peruserd.daemon.samples import Part
from peruserd.daemon.sharing import Shared
from peruserd.daemon.status_page import StatusPages
from peruserd.daemon.users_page import PATH, UsersPage

Check = Callable[[], tuple[bool, str]]
"""Says whether a check passes, and in one line why or why not."""

QUICK: Final = frozenset({b"/healthz", b"/readyz", b"/metrics"})
"""The pages that a machine without threads gets as well: none of them waits for a server or for a user."""

_INDEX: Final = b"""peruserd

/              in a browser: the status as a page
/status.json   the same for programs
/metrics       for Prometheus
/healthz       is the process well
/readyz        are all users served
/users/{name}  is this user served
"""

_MISSING: Final = "there is /metrics, /healthz, /readyz, /status.json and /users/{name}"

# A port that needs a privilege, and an address of a kind that this machine does not have.
_LASTING: Final = frozenset({errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.EINVAL})

# Prometheus asks for two or three forms. A client can name any version of a form, and each would be remembered.
_MAX_SHARED_FORMS: Final = 4


class Page:
    """The pages of an instance. `users` and `status` are the pages of users and of the status, if there are such."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        healthy: Check,
        ready: Check,
        users: UsersPage | None = None,
        status: StatusPages | None = None,
    ) -> None:
        self._exposition = Exposition(registry)
        self._exposing = threading.Lock()
        self._forms: dict[str, Shared[bytes]] = {}
        self._users = users
        self._status = status
        # In a flood of questions a hundred threads would compute at once, and the supervisor's loop is only one more.
        self._checks = {b"/healthz": Shared(healthy), b"/readyz": Shared(ready)}
        self._front_page = None if status is None else Shared(status.as_html)

    def __call__(self, request: Request) -> Answer:
        """Answer one request; for any thread."""
        path = request.head.path
        if self._users is not None and path.startswith(PATH):
            return self._users(request)
        if path == b"/metrics":
            return self._metrics(request.head.header("accept") or "")
        if path in self._checks:
            well, why = self._checks[path].get()
            return in_words(OK if well else "503 Service Unavailable", why)
        if path == b"/status.json" and self._status is not None:
            return Answer(OK, JSON, self._status.as_json())
        if path == b"/":
            return self._front(request.head)
        return in_words("404 Not Found", _MISSING)

    def _front(self, head: Head) -> Answer:
        """Return the page for people in a browser, and the short index for whoever asks for no HTML."""
        if self._front_page is not None and "text/html" in (head.header("accept") or ""):
            return self._front_page.get()
        return Answer(OK, PLAIN, _INDEX, (("Vary", "Accept"),))

    def _metrics(self, accept: str) -> Answer:
        encode, kind = _encoder(accept)
        shared = self._forms.get(kind)
        if shared is None:
            shared = Shared(partial(self._exposition.write, encode), self._exposing)
            if len(self._forms) < _MAX_SHARED_FORMS:
                self._forms[kind] = shared
        return Answer(OK, kind, shared.get())


def _encoder(accept: str) -> tuple[Encode, str]:
    """Return how metrics are written for a client, and the name of that form.

    The library fails if the versions in the client's header are no numbers. Such a client gets the usual form. So does
    one whose words would come back in the name of the form and are no part of such a name.
    """
    try:
        encode, kind = choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")
    return (encode, kind) if kind.isascii() and kind.isprintable() else choose_encoder("")


def registry_of(parts: Mapping[str, Part]) -> CollectorRegistry:
    """Return a registry of these parts by name, and of Prometheus' own ones for this process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    of_python: dict[str, Source] = {
        "process": ProcessCollector(registry=None).collect,
        "platform": PlatformCollector(registry=None).collect,
        # This one always registers itself, so it gets a registry of its own.
        "gc": GCCollector(registry=CollectorRegistry()).collect,
    }
    registry.register(GuardedCollector(parts, of_python))
    return registry


def serve(page: Page, http: HTTPConfig) -> HTTPServer:
    """Begin to serve a page at the configured address; raises ConfigError if that is impossible.

    Another program can give the port free, and an address can still come up. So that raises TemporaryError.
    """
    host, port = split_address(http.listen)
    # Whoever reads this machine's own name in a list of targets asks under it.
    names = {*split_hosts(http.hosts), socket.gethostname().lower()}
    try:
        server = HTTPServer(page, host, port, names, QUICK)
    except OSError as error:
        problem = f"http.listen: cannot listen on {http.listen}: {error.strerror}"
        if error.errno in _LASTING:
            raise ConfigError([problem]) from error
        advice = "; end what uses the port, or choose another one" if error.errno == errno.EADDRINUSE else ""
        raise TemporaryError([problem + advice]) from error
    server.start()
    return server
