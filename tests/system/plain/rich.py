"""A module that makes `import rich` fail in the daemons of system tests, as without the extra `demo`.

Structlog imports Rich if it can, and that takes a fifth of the processor time of a start.
"""

raise ImportError("a daemon needs no Rich")
