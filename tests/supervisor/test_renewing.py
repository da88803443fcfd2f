"""Listeners get a new configuration while they run, or by a new process in their turn."""

from peruserd.core.configuration.choices import LogLevel
from peruserd.core.configuration.config import AuditConfig, DeletionConfig, LogConfig
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.processes.messages import Hello, ListenerStart, Reconfigure, Stop
from peruserd.supervisor.start_request import FleetSettings, StartRequest
from tests.starting import listener_start
from tests.supervisor.test_messages import LOWER, UPPER, Noted, NotedProcess, _plan, _report, noted

__all__ = ["noted"]


def _settings(*, renews: bool, max_in_flight: int = 8, level: LogLevel = LogLevel.INFO) -> FleetSettings:
    """Return settings after a reload; whoever is started with them has this level."""
    log = LogConfig(level=level)

    def start_message(request: StartRequest) -> ListenerStart:
        return listener_start(request.assignment, share=request.conditions.share, log=log)

    message = Reconfigure(DeletionConfig(), AuditConfig(), log, max_in_flight, 30.0)
    return FleetSettings(start_message, message, max_in_flight, 0, renews)


def test_a_reload_reaches_listeners_while_they_run(noted: Noted) -> None:
    """They get the settings and their new part of the limits, and their processes stay."""
    processes = noted.run(_plan(LOWER, UPPER))
    settings = _settings(renews=False, max_in_flight=20)
    noted.fleet.reconfigure(settings)
    noted.fleet.run_deadlines(1.0)
    assert [each for process in processes for each in process.sent if isinstance(each, Reconfigure)] == [
        settings.message
    ] * 2
    assert [process.informed[-1].share for process in processes] == [10, 10]
    assert not any(isinstance(each, Stop) for process in processes for each in process.sent)


def test_listeners_that_need_a_new_process_get_it_one_after_the_other(noted: Noted) -> None:
    """The second one is asked to stop once the first one reads its copy again. None of it counts as a failure."""
    processes = noted.run(_plan(LOWER, UPPER))
    first, second = sorted(processes, key=lambda each: each.copy)
    noted.fleet.reconfigure(_settings(renews=True, level=LogLevel.DEBUG))
    noted.fleet.run_deadlines(1.0)
    noted.fleet.run_deadlines(2.0)
    assert _stops(first) == [Stop(8.0, leaving=False)]
    assert _stops(second) == []
    noted.end(first)
    successor = noted.processes[first.copy]
    assert successor is not first
    assert successor.start.log.level is LogLevel.DEBUG
    noted.say(successor, Hello())
    noted.fleet.run_deadlines(3.0)
    assert _stops(second) == []
    noted.say(successor, _report())
    noted.fleet.run_deadlines(4.0)
    assert _stops(second) == [Stop(8.0, leaving=False)]
    noted.end(second)
    status = noted.fleet.status()
    assert status.stops == {Reason.ORDERED: 2}
    assert [each.restarts for each in status.listeners] == [0, 0]
    assert not noted.fleet.exhausted


def test_a_listener_that_waits_for_its_restart_needs_no_renewal(noted: Noted) -> None:
    """Its next process has the new configuration in any case, and its pause stays."""
    (process,) = noted.run(_plan(WHOLE_SPACE))
    process.code = 1
    noted.end(process)
    noted.fleet.reconfigure(_settings(renews=True, level=LogLevel.DEBUG))
    noted.fleet.run_deadlines(0.0)
    assert [each.state for each in noted.fleet.status().listeners] == [State.BACKOFF]
    noted.fleet.run_deadlines(100.0)
    assert noted.processes[process.copy].start.log.level is LogLevel.DEBUG


def _stops(process: NotedProcess) -> list[Stop]:
    return [each for each in process.sent if isinstance(each, Stop)]
