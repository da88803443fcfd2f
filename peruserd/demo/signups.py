"""Sign-ups: user documents written at a steady rate, and the time until each user has a secured database.

The loop is open: a sign-up begins at its time, whether or not the earlier ones are served, as with real people.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from statistics import quantiles
from typing import Final
from urllib.parse import quote

import requests

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.users.security import is_private

# Syllables of several scripts and lengths, so that the names are realistic, and not only letters a to z.
_SYLLABLES: Final = (
    "an",
    "be",
    "cho",
    "da",
    "el",
    "fi",
    "gü",
    "ho",
    "ib",
    "jo",
    "ké",
    "li",
    "mo",
    "ni",
    "ø",
    "片",
    "жи",
)

# The pause between looks at a waiting user: well below the latencies to measure, and still a small load.
_LOOK_SECONDS: Final = 0.004


def names(count: int, seed: int) -> Iterator[str]:
    """Return `count` different user names, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - names, not secrets
    for number in range(count):
        yield "".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))) + str(number)


class SignUps:
    """Signs users up from one thread; another thread measures when each is served.

    `signed_up` and `latencies` (seconds, of those served) grow; reading them from other threads is safe.
    """

    def __init__(self, urls: list[str], prefix: str) -> None:
        self._urls = urls
        self._prefix = prefix
        self._lock = threading.Lock()
        self._waiting: dict[str, float] = {}
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self.signed_up: list[str] = []
        self.latencies: list[float] = []

    def start(self, users: list[str], rate: float) -> None:
        """Begin to sign users up, `rate` a second, and to watch."""
        for run in (lambda: self._sign_up(users, rate), self._watch):
            threading.Thread(target=self._guarded, args=(run,), daemon=True).start()

    def stop(self) -> None:
        """Stop signing up and watching."""
        self._stopping.set()

    def check(self) -> None:
        """Raise the error of one of the threads, if there was one."""
        if self._failure is not None:
            raise self._failure

    @property
    def waiting(self) -> int:
        """Return the number of users who have signed up and are not served yet."""
        with self._lock:
            return len(self._waiting)

    def percentile_ms(self, percent: int) -> float | None:
        """Return a percentile of the latency so far, in milliseconds; None while there are too few."""
        with self._lock:
            latencies = list(self.latencies)
        if len(latencies) < 2:
            return None
        return quantiles(latencies, n=100, method="inclusive")[percent - 1] * 1000

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001 - handed to the main thread by `check`
            self._failure = error

    def _sign_up(self, users: list[str], rate: float) -> None:
        http = _http()
        began = time.monotonic()
        for number, name in enumerate(users):
            if self._stopping.wait(max(0.0, began + number / rate - time.monotonic())):
                return
            document_id = user_document_id(name)
            answer = http.put(
                f"{self._urls[number % len(self._urls)]}/_users/{quote(document_id, safe='')}",
                json={"_id": document_id, "name": name, "type": "user", "roles": [], "password": f"{name}!"},
                timeout=30.0,
            )
            answer.raise_for_status()
            with self._lock:
                self._waiting[name] = time.monotonic()
                self.signed_up.append(name)

    def _watch(self) -> None:
        http = _http()
        while not self._stopping.wait(_LOOK_SECONDS):
            with self._lock:
                name, since = next(iter(self._waiting.items()), ("", 0.0))
            if not name:
                continue
            served = self._is_served(http, name)
            with self._lock:
                del self._waiting[name]
                if served:
                    self.latencies.append(time.monotonic() - since)
                else:
                    # The user goes to the end of the queue, so that a long wait does not delay the measurement of
                    # others.
                    self._waiting[name] = since

    def _is_served(self, http: requests.Session, name: str) -> bool:
        database = database_name(self._prefix, name)
        answer = http.get(f"{self._urls[0]}/{database}/_security", timeout=30.0)
        return answer.status_code == 200 and is_private(answer.json(), name)


def _http() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session
