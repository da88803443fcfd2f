"""Several instances on one cluster, one beside each node."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tests.system.acting import Acting
from tests.system.daemon import Daemon, Tables
from tests.system.target import Target
from tests.waiting import eventually, eventually_each

# A busy machine and the scan of some hundred users may add this to the promised time. It is not a part of the promise:
# no test fails because it was slow.
ALLOWANCE_SECONDS = 20.0


# Longer than any test takes.
NEVER_SECONDS = 600.0

# For tests that wait until a dead instance is taken for dead. A living one has ten times to renew its lease.
SHORT_LEASES = {"cluster": {"lease_ttl": 3.0}}


class Team:
    """An instance for each node of a target (or for the nodes with these numbers), all started and ready.

    `acting` has their acts, and `nodes` the names of all nodes in the order of their numbers. Methods without named
    instances mean the whole team.
    """

    def __init__(
        self,
        target: Target,
        make_daemon: Callable[..., Daemon],
        config: Tables | None = None,
        nodes: Sequence[int] | None = None,
    ) -> None:
        self.target = target
        self._made: list[Daemon] = []
        self.acting = Acting(target, lambda: [line for each in self._made for line in each.all_lines("audit")])
        self.nodes = target.node_names()
        self._make_daemon = make_daemon
        self._config = config
        self.instances: list[Daemon] = []
        with self.acting.unsettled():
            for number in nodes or range(1, len(target.urls) + 1):
                self.instances.append(self.make(number))
                self.instances[-1].launch()
            for each in self.instances:
                each.wait_until_started()
            self.wait_until_settled()

    def make(self, node: int) -> Daemon:
        """Make one more instance of the same kind beside a node (counted from 1), without starting it."""
        target = self.target
        made = self._make_daemon(
            url=target.urls[node - 1], username=target.username, password=target.password, config=self._config
        )
        self._made.append(made)
        return made

    def total(self, name: str, among: Sequence[Daemon] | None = None, **labels: str) -> float:
        """Return a metric summed over the instances."""
        return sum(each.metrics().total(name, **labels) for each in self._chosen(among))

    def owners(self, names: Sequence[str], instances: Sequence[str] | None = None) -> dict[str, str | None]:
        """Return the owner of each user while only these nodes (by default all) have a live instance."""
        return self.target.owners(names, self.nodes if instances is None else instances)

    def assert_acted_on_by_owners(self, names: Sequence[str], instances: Sequence[str] | None = None) -> None:
        """Fail if any instance but the owner acted on a user; for users who signed up while nothing changed."""
        owners = self.owners(names, instances)
        assert self.acting.actors(names) == {name: [owners[name]] for name in names}

    @property
    def promised_seconds(self) -> float:
        """The time limit for serving a user whose owner died at the moment of the sign-up."""
        cluster = {key: float(str(value)) for key, value in self.instances[0].config["cluster"].items()}
        return cluster["lease_ttl"] + cluster["quiet_period"] + 2 * cluster["poll_interval"] + ALLOWANCE_SECONDS

    def wait_until_served(self, names: Sequence[str], within_seconds: float = 120.0) -> None:
        """Wait until every one of the users has a correct database."""
        left = deque(names)

        def all_served() -> bool:
            # Asking about all users again and again would take more time than serving them.
            while left and self.target.is_served(left[0]):
                left.popleft()
            return not left

        try:
            eventually(all_served, "all users are served", within_seconds=within_seconds)
        except AssertionError as error:
            lost = self.target.unserved(left)
            raise AssertionError(f"{error}; not served: {len(lost)} of {len(names)}, such as {lost[:5]}") from None

    def wait_until_ready(self, among: Sequence[Daemon] | None = None) -> None:
        """Wait until each of the instances has caught up."""
        for each in self._chosen(among):
            each.wait_until_ready()

    def wait_until_agreed(self, among: Sequence[Daemon] | None = None) -> None:
        """Wait until each of the instances counts the same number as alive, and acts on it."""
        expected = self._chosen(among)
        eventually_each(
            expected,
            lambda each: each.gauge("peruserd_instances_alive") == len(expected),
            f"it believes in {len(expected)} instances",
        )

    def wait_until_settled(self, among: Sequence[Daemon] | None = None) -> None:
        """Wait until the instances agree on the live ones, and each has done everything that follows."""
        self.wait_until_agreed(among)
        for each in self._chosen(among):
            each.wait_until_scanned()

    def freeze_views(self, among: Sequence[Daemon]) -> None:
        """Let no view that these instances see from now on come into force; they must be all running ones.

        Each is killed and started again in its own place, so the view of its first look is in force at once.
        """
        for each in among:
            each.config["cluster"]["quiet_period"] = NEVER_SECONDS
            each.kill()
            with self.acting.unsettled():
                each.start()
                self.wait_until_settled(among)

    def set_quiet_period(self, seconds: float) -> None:
        """Give all instances another quiet period by a reload, so that none is restarted."""
        for each in self.instances:
            each.write_configuration(cluster={"quiet_period": seconds})
            each.hang_up()
        eventually_each(
            self.instances,
            lambda each: "cluster.quiet_period" in str(each.lines("configuration read again")[-1:]),
            "it has taken the quiet period over",
        )

    def warnings(self) -> list[dict[str, Any]]:
        """Return the instances' warnings since their last start."""
        return [line for each in self.instances for line in each.lines() if line.get("level") in ("warning", "error")]

    def _chosen(self, among: Sequence[Daemon] | None) -> Sequence[Daemon]:
        return self.instances if among is None else among
