"""Durations in rules, scaled: `{5m}` in an expression is a duration in the language of Prometheus.

Use a scale of 1. A smaller one makes rules that fire within seconds, for tests with a real Prometheus. Thresholds
stay as they are.
"""

import re
from typing import Final

import msgspec

_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART: Final = re.compile(r"(\d+)([dhms])")
_PLACE: Final = re.compile(r"\{(\d+[dhms])\}")


def seconds(duration: str) -> int:
    """Return a duration such as `5m` or `1m30s` in seconds; raises ValueError for any other text."""
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is no duration such as 5m")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


class Times(msgspec.Struct, frozen=True):
    """Writes durations, each multiplied by `scale`."""

    scale: float = 1.0

    def written(self, duration_seconds: float) -> str:
        """Return a duration as Prometheus reads it, in the largest unit that it is a whole number of."""
        scaled = round(duration_seconds * self.scale * 1000)
        if scaled == 0:
            # Prometheus takes no range of no length.
            return "0s" if duration_seconds == 0 else "1ms"
        for unit, size in _SECONDS.items():
            if scaled % (size * 1000) == 0:
                return f"{scaled // (size * 1000)}{unit}"
        return f"{scaled}ms"

    def filled(self, expression: str) -> str:
        """Return an expression with its durations written."""
        return _PLACE.sub(lambda place: self.written(seconds(place[1])), expression)
