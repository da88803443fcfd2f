"""Commands as a user runs them: each in a process of its own."""

import os
import subprocess
import sys


def peruserd(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PERUSERD_")}
    return subprocess.run(
        [sys.executable, "-m", "peruserd", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**clean, **(environment or {})},
    )
