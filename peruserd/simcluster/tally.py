"""Counting what was asked of the cluster, so that tests and benchmarks can say what something cost."""

from collections import Counter


class Tally:
    """Requests by node, method and kind of path; databases by how often they were made and deleted."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.created: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()

    def clear(self) -> None:
        """Begin again at nothing."""
        self.requests.clear()
        self.created.clear()
        self.deleted.clear()
