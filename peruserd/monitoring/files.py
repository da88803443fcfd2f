"""The files of an export, each with its contents."""

import json
from typing import Final

from peruserd.monitoring.dashboard import dashboard
from peruserd.monitoring.exported import RULES_FILE, Form, rule_tests, rules
from peruserd.monitoring.yaml_text import written

TESTS_FILE: Final = "peruserd.rules.test.yml"
DASHBOARD_FILE: Final = "peruserd-dashboard.json"
README_FILE: Final = "README.md"

_MADE: Final = "# Made by `peruserd monitoring export`. Another export writes it anew, with --overwrite.\n"

_README: Final = """\
# peruserd in Prometheus and Grafana

`peruserd monitoring export` has made these files.

| file | for |
|---|---|
| `{rules}` | Prometheus: recorded expressions and alerts |
| `{tests}` | `promtool test rules {tests}`, which proves the times of each alert |
| `{dashboard}` | Grafana, 10.4 or newer: Dashboards, New, Import |

## Prometheus

Copy the files to `/etc/prometheus/peruserd`, if they are not there. Add this to `prometheus.yml`, with each instance of
the cluster:

    rule_files:
      - peruserd/{rules}
    scrape_configs:
      - job_name: {job}
        static_configs:
          - targets: ["node1:9984", "node2:9984", "node3:9984"]

Then check it, and let Prometheus read it again:

    promtool check config /etc/prometheus/prometheus.yml
    systemctl reload prometheus

- The rules and the dashboard expect the job `{job}`. `peruserd monitoring export --job` takes another one.
- Prometheus must scrape all instances of a cluster. Otherwise the parts of ranges that instances own add up to less
  than 1.
- Targets of several clusters need a label `cluster`, or a job for each.
- `http.listen` is a loopback address by default. Give an address there that Prometheus reaches, and let a firewall keep
  others away.
- Targets are addresses, the machine's own name, or names in `http.hosts`. Under any other name the answer is 421.

## Alerts

Each alert has a severity. `critical` means that users are not served, or soon will not be. `warning` can wait for the
working day. The annotation `runbook_url` leads to what to do: `{runbook}`.
"""


def files(form: Form) -> dict[str, str]:
    """Return the contents of each file by its name."""
    readme = _README.format(
        rules=RULES_FILE, tests=TESTS_FILE, dashboard=DASHBOARD_FILE, job=form.job, runbook=form.runbook
    )
    return {
        RULES_FILE: _MADE + written(rules(form)),
        TESTS_FILE: _MADE + written(rule_tests(form)),
        DASHBOARD_FILE: json.dumps(dashboard(form.job), indent=2) + "\n",
        README_FILE: readme,
    }
