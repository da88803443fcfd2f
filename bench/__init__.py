"""The benchmarks, `python -m bench`: they measure the claims of the documentation, and keep every sample."""
