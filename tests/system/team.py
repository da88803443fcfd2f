"""Several instances on one cluster, one beside each node."""

from collections.abc import Callable
from typing import Any

from tests.system.daemon import Daemon, Tables
from tests.system.processes import eventually
from tests.system.target import Target


class Team:
    """An instance for each node of a target, all started and ready."""

    def __init__(self, target: Target, make_daemon: Callable[..., Daemon], config: Tables | None = None) -> None:
        self.target = target
        self.instances = [
            make_daemon(url=url, username=target.username, password=target.password, config=config)
            for url in target.urls
        ]
        for each in self.instances:
            each.start()
        for each in self.instances:
            each.wait_until_ready()

    def total(self, name: str, **labels: str) -> float:
        """Return a metric summed over the instances."""
        return sum(each.metrics().total(name, **labels) for each in self.instances)

    def wait_until_served(self, names: list[str], within_seconds: float = 120.0) -> None:
        """Wait until every one of the users has a correct database."""
        left = names

        def all_served() -> bool:
            nonlocal left
            left = self.target.unserved(left)
            return not left

        try:
            eventually(all_served, "all users are served", within_seconds=within_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; not served: {len(left)} of {len(names)}, such as {left[:5]}") from None

    def wait_until_ready(self) -> None:
        """Wait until every instance has caught up."""
        for each in self.instances:
            each.wait_until_ready()

    def warnings(self) -> list[dict[str, Any]]:
        """Return what the instances warned of since their last start."""
        return [line for each in self.instances for line in each.lines() if line.get("level") in ("warning", "error")]
