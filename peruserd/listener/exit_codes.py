"""The exit codes of a listener."""

from enum import IntEnum


class Exit(IntEnum):
    """A listener's exit codes; the supervisor restarts it after all but 0.

    None of them says that the configuration is wrong, because it was checked before the listener was started.
    """

    DONE = 0
    FAULT = 70  # an error nobody foresaw; the log has it
    AGAIN = 75  # to be started again: the copy was replaced, the disk was full
