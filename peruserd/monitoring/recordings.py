"""Recorded expressions: sums over the instances of a cluster, for the dashboard and for alerts.

They are grouped by the labels `job` and `cluster`. The second one is for those who scrape several clusters.
"""

from collections.abc import Iterator
from typing import Final

from peruserd.monitoring.rules import Recording

_BY: Final = "by (job, cluster)"
_LATENCY: Final = "peruserd_provisioning_latency_seconds"

SLOW_SECONDS: Final = "10.0"
"""A user who is served later than this counts as slow. It is a bound of the histogram, as its label has it."""

FAILED: Final = "5..|5xx|timeout|unreachable|unexpected_answer|too_large"
"""The outcomes of requests that CouchDB has failed."""


def _recordings() -> Iterator[Recording]:
    yield Recording(
        "job:peruserd_users_provisioned:rate5m",
        f"sum {_BY} (rate(peruserd_users_provisioned_total[{{5m}}]))",
        "Users served in a second.",
    )
    for percent in (50, 95, 99):
        yield Recording(
            f"job:{_LATENCY}:p{percent}_5m",
            f"histogram_quantile({percent / 100:g}, sum {_BY[:-1]}, le) (rate({_LATENCY}_bucket[{{5m}}])))",
            f"Time within which {percent} % of the users were served.",
        )
    for window in ("5m", "30m", "1h", "6h"):
        yield Recording(
            f"job:peruserd_provisioning_slow:ratio_rate{window}",
            f'1 - sum {_BY} (rate({_LATENCY}_bucket{{le="{SLOW_SECONDS}"}}[{{{window}}}]))\n'
            f"  / (sum {_BY} (rate({_LATENCY}_count[{{{window}}}])) > 0)",
            f"Part of the users of {window} who were served later than {SLOW_SECONDS} s; nothing if nobody signed up.",
        )
    yield Recording(
        "job:peruserd_listener_lag_seconds:max",
        f"max {_BY} (peruserd_listener_lag_seconds)",
        "Time for which the oldest change has waited.",
    )
    yield Recording(
        "job:peruserd_quarantined_users:sum",
        f"sum {_BY} (peruserd_quarantined_users)",
        "Users in quarantine.",
    )
    yield Recording(
        "job:peruserd_requests_failed:ratio_rate5m",
        f'sum {_BY} (rate(peruserd_requests_total{{outcome=~"{FAILED}"}}[{{5m}}]))\n'
        f"  / (sum {_BY} (rate(peruserd_requests_total[{{5m}}])) > 0)",
        "Part of the requests that got a 5xx or no answer.",
    )


RECORDINGS: Final = tuple(_recordings())
