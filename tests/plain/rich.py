"""A module that makes `import rich` fail in programs that tests start, as without the extra `demo`.

Structlog imports Rich if it can, and that takes a fifth of the processor time of a start.
"""

raise ImportError("only the demo and benchmarks need Rich")
