"""The environment for programs of the demo and of benchmarks, which show their tables with Rich."""

import os


def environment() -> dict[str, str]:
    """Return this environment without the folder `tests/plain`, which hides Rich from all other programs."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
