"""A watermark for tests that see how often each ticket is given back."""

from collections import Counter

from peruserd.core.feed.watermark import Watermark


class CountingWatermark(Watermark):
    """A watermark that counts how often each ticket was given back."""

    def __init__(self) -> None:
        super().__init__(0)
        self.finishes: Counter[int] = Counter()

    def finish(self, ticket: int) -> None:
        """Count, and give back."""
        self.finishes[ticket] += 1
        super().finish(ticket)
