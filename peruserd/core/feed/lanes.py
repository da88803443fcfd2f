"""The reasons to look at a user, by their urgency."""

from enum import IntEnum


class Lane(IntEnum):
    """The reasons to look at a document, the most urgent first. The names, in small letters, label a metric."""

    LIVE = 0
    SCAN = 1  # gained, or never seen to be right
    RETRY = 2
    REVIEW = 3  # what this instance did may have to be put right, whoever owns the document by now
    OTHERS = 4  # somebody else made or deleted the database
    OPERATOR = 5
    ROLLOUT = 6
    AUDIT = 7
