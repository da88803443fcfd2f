"""A limit on how often something is done: a token bucket, by the caller's monotonic clock, in seconds."""


class TokenBucket:
    """Allows `per_second` events in the long run, and `burst` of them at once."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._filled_at = float("-inf")

    def take(self, now: float) -> bool:
        """Say whether one more event is allowed now, and count it if so."""
        # A clock that stands still, or goes back, gives nothing.
        if now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
            self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
