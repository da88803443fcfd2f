"""The benchmark suite: `python -m bench`. It measures what the documentation claims, and keeps every sample."""
