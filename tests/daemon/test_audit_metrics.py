"""The metrics of the audit."""

from prometheus_client import CollectorRegistry

from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import AuditStatus, Summary
from peruserd.daemon.audit_metrics import AuditMetrics
from peruserd.daemon.collecting import GuardedCollector
from tests.daemon.fleets import ReportingFleet, report

NOW = 1_000.0


def scraped(*statuses: AuditStatus | None) -> CollectorRegistry:
    """Return a registry with the audits of these listeners."""
    registry = CollectorRegistry()
    fleet = ReportingFleet(*(report(audit=each) if each else None for each in statuses))
    registry.register(GuardedCollector({"part": AuditMetrics(fleet, lambda: NOW).put}))
    return registry


def findings(registry: CollectorRegistry, kind: Finding, which: str) -> float | None:
    """Return how many users of a kind there are in a round."""
    return registry.get_sample_value("peruserd_audit_findings", {"kind": kind.value, "round": which})


def test_findings_are_added_over_listeners_and_none_is_left_out() -> None:
    """A kind without findings is 0, so an alert sees it appear and disappear."""
    registry = scraped(
        AuditStatus(None, Summary(100.0, 160.0, 7, {Finding.MISSING: 2})),
        AuditStatus(Summary(900.0, None, 2, {Finding.PUBLIC: 1}), Summary(100.0, 400.0, 5, {Finding.MISSING: 1})),
    )
    assert findings(registry, Finding.MISSING, "last") == 3
    assert findings(registry, Finding.PUBLIC, "last") == 0
    assert findings(registry, Finding.PUBLIC, "running") == 1
    assert registry.get_sample_value("peruserd_audit_users", {"round": "last"}) == 12
    assert registry.get_sample_value("peruserd_audit_round_seconds") == 300.0
    assert registry.get_sample_value("peruserd_audit_age_seconds") == NOW - 160.0


def test_a_listener_without_a_whole_round_leaves_the_figures_of_whole_rounds_out() -> None:
    """A sum over only some of the users would seem too good."""
    whole = AuditStatus(None, Summary(100.0, 160.0, 7, {Finding.MISSING: 2}))
    assert findings(scraped(whole, None), Finding.MISSING, "last") is None
    registry = scraped(whole, AuditStatus(Summary(900.0, None, 2, {}), None))
    assert findings(registry, Finding.MISSING, "last") is None
    assert findings(registry, Finding.MISSING, "running") == 0
    assert registry.get_sample_value("peruserd_audit_age_seconds") is None


def test_before_the_first_report_there_is_no_figure() -> None:
    """Before the first round nothing is known, and that is not the same as no findings."""
    registry = scraped(None)
    assert findings(registry, Finding.MISSING, "last") is None
    assert registry.get_sample_value("peruserd_audit_round_seconds") is None
