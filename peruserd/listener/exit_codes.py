"""The exit codes of a listener."""

from enum import IntEnum

from peruserd.core.processes.lifecycle import EXIT_AGAIN


class Exit(IntEnum):
    """A listener's exit codes. After each of them the supervisor starts the listener again, if the plan has its copy.

    None of them says that the configuration is wrong, because it was checked before the listener was started. AGAIN
    says that the cause is outside of this instance, so restarts of the instance would not help either.
    """

    DONE = 0  # told to stop
    FAULT = 70  # an error nobody foresaw; the log has it
    AGAIN = EXIT_AGAIN  # to be started again: the copy was replaced, the disk was full at its start
