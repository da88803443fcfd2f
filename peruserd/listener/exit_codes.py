"""The exit codes of a listener."""

from enum import IntEnum


class Exit(IntEnum):
    """A listener's exit codes. After each of them the supervisor starts the listener again, if the plan has its copy.

    None of them says that the configuration is wrong, because it was checked before the listener was started.
    """

    DONE = 0  # told to stop
    FAULT = 70  # an error nobody foresaw; the log has it
    AGAIN = 75  # to be started again: the copy was replaced, the disk was full
