"""The reasons to look at a user, by their urgency."""

from enum import IntEnum


class Lane(IntEnum):
    """The reasons to look at a document, the most urgent first. The names, in small letters, label a metric."""

    LIVE = 0
    SCAN = 1  # the document was gained, or was never seen to be right
    RETRY = 2
    REVIEW = 3  # an earlier act of this instance may have to be corrected, whoever owns the document now
    OTHERS = 4  # somebody else created or deleted the database
    OPERATOR = 5
    ROLLOUT = 6
    AUDIT = 7
