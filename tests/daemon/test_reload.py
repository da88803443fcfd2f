"""The reload of the configuration, with parts that only note what they get."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.core.configuration.changes import Changes
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import Loaded, load
from peruserd.core.processes import control
from peruserd.core.users.templates import NO_TEMPLATES
from peruserd.couch.credentials import CredentialSource
from peruserd.daemon import orders
from peruserd.daemon.orders import Reloads
from peruserd.daemon.reload import InForce, Reload, Reloader
from peruserd.daemon.systemd import Notifier
from tests.waiting import PATIENCE_SECONDS, eventually

BEFORE = '[log]\nlevel = "info"\n'
AFTER = '[log]\nlevel = "debug"\n[http]\nlisten = "127.0.0.1:9"\n'


def settings(text: str) -> tuple[Loaded, CredentialSource]:
    """Return what a file with this text brings."""
    loaded = load(text, {}, "file")
    return loaded, CredentialSource(loaded, {})


class Parts:
    """Notes what it gets; each reading takes the next text."""

    def __init__(self) -> None:
        self.text = BEFORE
        self.readings = 0
        self.gate = threading.Event()
        self.gate.set()
        self.taken: list[tuple[Config, Changes]] = []
        self.fault: Exception | None = None

    def read(self) -> tuple[Loaded, CredentialSource]:
        """Read the text."""
        text = self.text
        self.readings += 1
        assert self.gate.wait(PATIENCE_SECONDS)
        return settings(text)

    def take_over(self, now: InForce, changes: Changes) -> None:
        """Note a configuration."""
        if self.fault is not None:
            raise self.fault
        self.taken.append((now.config, changes))


class NotedNotifier(Notifier):
    """Notes what is said to systemd."""

    def __init__(self) -> None:
        super().__init__(None)
        self.said: list[str] = []
        self.is_ready = True

    def reloading(self) -> None:
        self.said.append("reloading")

    def ready(self) -> None:
        self.said.append("ready")
        self.is_ready = True


@pytest.fixture
def parts() -> Parts:
    """Parts that note."""
    return Parts()


@pytest.fixture
def notifier() -> NotedNotifier:
    """A notifier that notes."""
    return NotedNotifier()


@pytest.fixture
def reloader(parts: Parts, notifier: NotedNotifier) -> Iterator[Reloader]:
    """A reloader that runs."""
    loaded, source = settings(BEFORE)
    made = Reloader(InForce(loaded.config, source, NO_TEMPLATES), parts.read, parts.take_over, notifier, lambda: 7.0)
    made.start()
    yield made
    made.stop()


def done(reloader: Reloader) -> Reload:
    """Reload, and return the result."""
    return reloader.request().result(PATIENCE_SECONDS)


def test_what_can_be_changed_is_handed_on_and_the_rest_keeps_its_value(
    reloader: Reloader, parts: Parts, notifier: NotedNotifier
) -> None:
    """The keys that wait for a restart are named again each time, because their new values are not in force."""
    parts.text = AFTER
    assert done(reloader) == Reload(Changes(at_once=("log.level",), kept=("http.listen",)))
    assert done(reloader) == Reload(Changes(kept=("http.listen",)))
    (config, _), _ = parts.taken
    assert (config.log.level, config.http.listen) == ("debug", Config().http.listen)
    assert notifier.said == ["reloading", "ready"] * 2


@pytest.mark.parametrize(
    ("text", "is_mistake"),
    [
        ("[log", True),
        ('[log]\nlevel = "loud"\n', True),
        ('[templates]\ndirectory = "/dev/null"\n', True),
        ('[templates]\ndirectory = "/nowhere/at/all"\n', False),
        ('[log]\naudit_file = "/dev/null"\n', True),
        ('[log]\naudit_file = "/nowhere/at/all"\n', False),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_is_said(
    reloader: Reloader, parts: Parts, notifier: NotedNotifier, text: str, *, is_mistake: bool
) -> None:
    """Templates and the audit's file are part of it. A missing directory may come, and so is no mistake of the file.

    The next file is compared with the configuration in force.
    """
    parts.text = text
    result = done(reloader)
    assert (len(result.mistakes), bool(result.trouble)) == (is_mistake, not is_mistake)
    assert parts.taken == []
    assert not reloader.record.successful
    assert reloader.record.refused is not None
    parts.text = AFTER
    assert done(reloader).changes.at_once == ("log.level",)
    assert reloader.record.successful
    assert reloader.record.refused is None
    assert notifier.said == ["reloading", "ready"] * 2


def test_many_requests_at_once_are_one_reload_and_see_the_newest_file(reloader: Reloader, parts: Parts) -> None:
    """The file may change while it is read, so those who ask meanwhile get the result of another reading."""
    parts.gate.clear()
    first = reloader.request()
    eventually(lambda: parts.readings == 1)
    parts.text = AFTER
    later = [reloader.request() for _ in range(5)]
    parts.gate.set()
    assert not first.result(PATIENCE_SECONDS).changes
    assert {each.result(PATIENCE_SECONDS).changes.at_once for each in later} == {("log.level",)}
    assert parts.readings == 2


def test_an_operator_does_not_wait_for_ever_for_a_slow_disk(
    reloader: Reloader, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reload goes on, and the file counts as soon as it is read."""
    monkeypatch.setattr(orders, "_RELOAD_SECONDS", 0.1)
    parts.text = AFTER
    parts.gate.clear()
    (refused,) = Reloads(reloader).carry_out(control.Reload(), 0)
    assert isinstance(refused, control.Refused)
    assert refused.again
    parts.gate.set()
    eventually(lambda: bool(parts.taken))


def test_a_reload_during_the_start_does_not_end_the_start(
    reloader: Reloader, parts: Parts, notifier: NotedNotifier
) -> None:
    """For systemd the end of a reload and that of the start are the same words."""
    notifier.is_ready = False
    parts.gate.clear()
    asked = reloader.request()
    eventually(lambda: parts.readings == 1)
    notifier.ready()
    parts.gate.set()
    asked.result(PATIENCE_SECONDS)
    assert notifier.said == ["ready"]


@pytest.mark.parametrize("where", ["read", "take_over"])
def test_an_unforeseen_failure_ends_one_reload_only(
    reloader: Reloader, parts: Parts, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Without its thread no later configuration would be taken over."""
    fault = RuntimeError("no memory")
    if where == "take_over":
        parts.fault = fault
    else:
        monkeypatch.setattr(reloader, "_read", _raising(fault))
    assert "no memory" in done(reloader).trouble
    assert not reloader.record.successful
    monkeypatch.undo()
    monkeypatch.setattr(reloader, "_read", parts.read)
    parts.fault = None
    assert done(reloader).problems == ()


def _raising(fault: Exception) -> Callable[[], object]:
    def read() -> object:
        raise fault

    return read


def test_nobody_waits_for_a_reload_of_an_instance_that_stops(parts: Parts, notifier: NotedNotifier) -> None:
    """A command gets its answer, whether it asked before the stop or after it."""
    loaded, source = settings(BEFORE)
    made = Reloader(InForce(loaded.config, source, NO_TEMPLATES), parts.read, parts.take_over, notifier)
    parts.gate.clear()
    made.start()
    under_way = made.request()
    eventually(lambda: parts.readings == 1)
    waiting = made.request()
    made.stop()
    parts.gate.set()
    assert under_way.result(PATIENCE_SECONDS).problems == ()
    assert "stopping" in waiting.result(PATIENCE_SECONDS).trouble
    assert "stopping" in done(made).trouble


def test_the_account_of_another_server_is_not_taken_over(parts: Parts, notifier: NotedNotifier, tmp_path: Path) -> None:
    """Its password would go to the server that the instance is attached to."""
    (tmp_path / "password").write_text("old\n")
    text = f'[couchdb]\nurl = "http://a:1"\nusername = "adm"\npassword_file = "{tmp_path}/password"\n'
    loaded, source = settings(text)
    taken: list[InForce] = []
    made = Reloader(
        InForce(loaded.config, source, NO_TEMPLATES), parts.read, lambda now, _: taken.append(now), notifier
    )
    made.start()
    (tmp_path / "other").write_text("new\n")
    parts.text = text.replace("/password", "/other")
    done(made)
    parts.text = text.replace("http://a:1", "http://b:1").replace("/password", "/password")
    done(made)
    made.stop()
    passwords = [each.source.credentials.password.value for each in taken if each.source.credentials]
    assert passwords == ["new", "new"]


def test_a_refused_file_does_not_count_as_read(parts: Parts, notifier: NotedNotifier) -> None:
    """A metric shows since when the configuration is in force."""
    loaded, source = settings(BEFORE)
    moments = iter([1.0, 2.0])
    begin = InForce(loaded.config, source, NO_TEMPLATES)
    made = Reloader(begin, parts.read, parts.take_over, notifier, lambda: next(moments))
    made.start()
    parts.text = "[lo"
    done(made)
    assert made.record.success_at == 1.0
    parts.text = AFTER
    done(made)
    assert made.record.success_at == 2.0
    made.stop()
