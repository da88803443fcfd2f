"""Rich as the daemons of system tests find it: not at all, as in an installation without the extra `demo`.

Structlog imports Rich where it can, which takes a fifth of the processor time of a start.
"""

raise ImportError("a daemon needs no Rich")
