"""The choices of the configuration: keys whose values are one of a few words."""

from enum import StrEnum


class FeedChoice(StrEnum):
    """The kind of feed that listeners read changes from."""

    AUTO = "auto"
    SHARD = "shard"
    DATABASE = "database"


class DeletionPolicy(StrEnum):
    """The policy for a user's database after the deletion of the user document."""

    REVOKE = "revoke"
    KEEP = "keep"
    DROP = "drop"


class OnReturn(StrEnum):
    """The policy for a returning user whose old database is still there."""

    REOPEN = "reopen"
    HOLD = "hold"


class Grant(StrEnum):
    """The rights of users in their own databases."""

    ADMIN = "admin"
    MEMBER = "member"


class Audience(StrEnum):
    """The clients that may ask whether a user is served."""

    LOOPBACK = "loopback"
    EVERYBODY = "everybody"
    NOBODY = "nobody"


class WhenDeleted(StrEnum):
    """The policy after somebody has deleted the database of a live user."""

    REMAKE = "remake"
    REPORT = "report"


class LogFormat(StrEnum):
    """The form of log lines."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogUsers(StrEnum):
    """The form in which log lines name users."""

    HASH = "hash"
    NAME = "name"
    NONE = "none"


class LogLevel(StrEnum):
    """The least severe level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
