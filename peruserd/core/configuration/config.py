"""The configuration: typed, with a default and an explanation for each key.

These types are the single source. Decoding (`peruserd.core.configuration.decoding`), the sample of `peruserd config`
and the table of docs/configuration.md all follow from them. Intervals are seconds, as floats.
"""

from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta

from peruserd.core.configuration.choices import (
    Audience,
    DeletionPolicy,
    FeedChoice,
    Grant,
    LogFormat,
    LogLevel,
    LogUsers,
    OnReturn,
    WhenDeleted,
)

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
UpToAnHour = Annotated[float, Meta(ge=0, le=3_600)]
UpToAMonth = Annotated[float, Meta(gt=0, le=2_678_400)]
UpToTenYears = Annotated[float, Meta(ge=0, le=315_360_000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]

MAX_SHARDS: Final = 1_024
"""The limit of shards or copies of one database. Each is a file, and a request for millions brings a node down."""

Shards = Annotated[int, Meta(ge=1, le=MAX_SHARDS)]

MAX_IN_FLIGHT: Final = 1_024
"""The limit of users under work at once. Each has a thread and a connection."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file."""


class CouchDBConfig(Table, frozen=True):
    """The CouchDB node this instance is attached to, and how to reach it."""

    url: Annotated[
        str,
        Meta(
            description="The node's address. Give the node itself, not a load balancer, because an instance is "
            "attached to one node. Credentials in it (http://name:password@host:5984) are taken out at once."
        ),
    ] = "http://127.0.0.1:5984"
    username: Annotated[str | None, Meta(description="A server admin's name.")] = None
    password_file: Annotated[
        str | None,
        Meta(
            description="A file with the password in its first line. It is read again after a refusal and on SIGHUP. "
            "PERUSERD_COUCHDB_PASSWORD or the systemd credential couchdb-password can be used instead."
        ),
    ] = None
    auth_db: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_$()+/-]*\Z")], Meta(description="The authentication database.")
    ] = "_users"
    node: Annotated[
        Annotated[str, Meta(min_length=1)],
        Meta(description="The node's Erlang name, as in node1@host. _local means the node that answers at the url."),
    ] = "_local"
    ca_file: Annotated[str | None, Meta(description="PEM file of the authority that signed the server.")] = None
    client_cert: Annotated[str | None, Meta(description="PEM file of a client certificate.")] = None
    client_key: Annotated[
        str | None, Meta(description="PEM file of the certificate's key, if it is a file of its own.")
    ] = None
    connect_timeout: Annotated[
        Seconds, Meta(description="Seconds until the host must be looked up, and then until a connection must stand.")
    ] = 5.0
    read_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds without a byte until a request has failed. A long poll has its own time in addition. "
            "A whole answer may take twice as long, and a second more for each 256 KiB of it."
        ),
    ] = 30.0
    long_poll_timeout: Annotated[
        Annotated[float, Meta(ge=1, le=25)],
        Meta(
            description="Seconds until a long poll without news ends. It must be less than a proxy in between allows."
        ),
    ] = 25.0
    feed: Annotated[
        FeedChoice,
        Meta(
            description="shard: each shard copy's feed. database: the database's feed, by one listener, for servers "
            "without shards. auto: shard where the server has /_node/_local, database elsewhere."
        ),
    ] = FeedChoice.AUTO

    def with_timeouts_up_to(self, seconds: float) -> Self:
        """Return these settings with time-outs of at most so many seconds, where a late answer is useless."""
        connect, read = (min(each, seconds) for each in (self.connect_timeout, self.read_timeout))
        return msgspec.structs.replace(self, connect_timeout=connect, read_timeout=read)


class DatabasesConfig(Table, frozen=True):
    """The databases that are created for users."""

    prefix: Annotated[
        str,
        Meta(
            description="The beginning of their names. Two hexadecimal digits for each byte of the user's name follow."
        ),
    ] = "userdb-"
    q: Annotated[Shards, Meta(description="Shards of each database.")] = 1
    n: Annotated[
        Shards | None, Meta(description="Copies of each shard. Without this key the server's default is used.")
    ] = None
    placement: Annotated[str | None, Meta(description="The zones of the copies, as in metro-dc-a:2,metro-dc-b:1.")] = (
        None
    )
    partitioned: Annotated[bool, Meta(description="Create partitioned databases.")] = False
    when_deleted: Annotated[
        WhenDeleted,
        Meta(
            description="The policy after somebody has deleted the database of a live user. remake: it is created "
            "again, empty. report: the user goes to quarantine as database_deleted, until the operator has the user "
            "looked at or somebody puts the database back."
        ),
    ] = WhenDeleted.REMAKE


class SecurityConfig(Table, frozen=True):
    """The rights that users have in their databases."""

    grant: Annotated[
        Grant,
        Meta(
            description="admin: the user is an admin and a member of the database, as with couch_peruser, and can "
            "write its design documents and its security object. member: a member alone. Existing databases "
            "stay as they are until `peruserd templates rollout`."
        ),
    ] = Grant.ADMIN


class TemplatesConfig(Table, frozen=True):
    """Documents, roles and options that each user's database gets."""

    directory: Annotated[
        str | None,
        Meta(
            description="A directory with documents/*.json, security.json and options.json. It is read at the start "
            "and at a reload. New databases get its content at once, and existing ones by `peruserd templates rollout`."
        ),
    ] = None


class DeletionConfig(Table, frozen=True):
    """Deletions of user documents, and the databases that remain after them."""

    policy: Annotated[
        DeletionPolicy,
        Meta(
            description="revoke: the user loses access, the database stays. keep: nothing changes. drop: the user "
            "loses access at once, and the database is deleted when the grace period is over."
        ),
    ] = DeletionPolicy.REVOKE
    grace_period: Annotated[
        UpToTenYears,
        Meta(
            description="drop: seconds from the deletion of a user document to that of the database. With 0 it is "
            "deleted as soon as the deletion is confirmed."
        ),
    ] = 604_800.0
    max_drops: Annotated[
        Count,
        Meta(
            description="drop: this many databases may be deleted within per_seconds, by all instances together. One "
            "more stops all deletions until `peruserd deletions resume`. A database without a document never counts."
        ),
    ] = 100
    per_seconds: Annotated[UpToAMonth, Meta(description="The seconds within which max_drops are counted.")] = 3_600.0
    on_return: Annotated[
        OnReturn,
        Meta(
            description="The policy when somebody signs up under the name of a deleted user whose database still "
            "exists. reopen: the new user gets the database with its content. hold: nobody gets access until "
            "`peruserd deletions release` or `drop-now`."
        ),
    ] = OnReturn.REOPEN

    @property
    def uses_journal(self) -> bool:
        """Say whether anything waits in the journal of deletions."""
        return self.policy is DeletionPolicy.DROP or self.on_return is OnReturn.HOLD


class ClusterConfig(Table, frozen=True):
    """Ways in which the instances of a cluster know of each other, and watch the cluster."""

    database: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_$()+/-]{0,199}\Z")],
        Meta(
            description="peruserd's own database, for server admins only. In it the instances show each other "
            "that they are alive. The first instance creates it. Somebody else's database of that name is not "
            "touched. All instances of a cluster must name the same one."
        ),
    ] = "peruserd"
    poll_interval: Annotated[Seconds, Meta(description="Seconds between two readings of nodes and shard map.")] = 2.0
    quiet_period: Annotated[
        UpToAnHour,
        Meta(
            description="Seconds for which a change of the cluster must last before it takes effect. It should be "
            "longer than a restart of the daemon, so that a restart moves no documents."
        ),
    ] = 5.0
    lease_interval: Annotated[Seconds, Meta(description="Seconds between two signs of life of an instance.")] = 5.0
    lease_ttl: Annotated[Seconds, Meta(description="Seconds of silence after which an instance is dead.")] = 20.0


class ProvisioningConfig(Table, frozen=True):
    """Limits within which users are served."""

    max_in_flight: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_IN_FLIGHT)],
        Meta(description="Users this instance works on at once, over all its listeners."),
    ] = 64
    max_new_per_minute: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)],
        Meta(
            description="At most this many databases are created by this instance in a minute, divided among its "
            "listeners (at least one each). Further new users wait. 0: no limit."
        ),
    ] = 0


class AuditConfig(Table, frozen=True):
    """The audit: every user is looked at in turn, whether or not anything has happened."""

    interval: Annotated[
        UpToAMonth,
        Meta(
            description="Seconds from the beginning of one round over all users to that of the next. A round takes "
            "longer if the rate is too low for that, as peruserd_audit_round_seconds shows."
        ),
    ] = 86_400.0
    rate: Annotated[
        Annotated[float, Meta(gt=0, le=10_000)],
        Meta(
            description="At most this many requests a second are made by the audit of this instance, over all its "
            "listeners. Each user takes about one request for each copy of the database, on any node."
        ),
    ] = 10.0


class HTTPConfig(Table, frozen=True):
    """Metrics, health, the status, and whether a user is served."""

    listen: Annotated[
        str,
        Meta(description="Address and port of all HTTP pages. Port 0 takes a free one."),
    ] = "127.0.0.1:9984"
    users: Annotated[
        Audience,
        Meta(
            description="The clients that may ask /users/{name} whether a user is served. loopback: programs of this "
            "machine, and nobody if `listen` is no loopback address. everybody: all that reach the port. nobody: the "
            "page is closed."
        ),
    ] = Audience.LOOPBACK
    ready_lag: Annotated[
        Seconds,
        Meta(
            description="/readyz fails while a live change has waited longer than this, or the feed was not read for "
            "longer than this and a long poll together, in seconds."
        ),
    ] = 30.0
    hosts: Annotated[
        str | None,
        Meta(
            description="Names under which clients may ask, separated by commas, as in peruserd.example.org. Requests "
            "for other names are refused, because a web site can give this machine's address a name of its own. "
            "Addresses, loopback names and this machine's own name need not be given."
        ),
    ] = None


class StateConfig(Table, frozen=True):
    """The state that is kept between starts. Its loss costs a scan of the users, nothing else."""

    directory: Annotated[
        str | None,
        Meta(description="The directory. The default is systemd's $STATE_DIRECTORY, or else /var/lib/peruserd."),
    ] = None


class LogConfig(Table, frozen=True):
    """Log lines, on standard error, and a file for those of the audit."""

    format: Annotated[
        LogFormat,
        Meta(description="json: for programs. console: for people. auto: console on a terminal, json elsewhere."),
    ] = LogFormat.AUTO
    level: Annotated[LogLevel, Meta(description="The least severe level that is written.")] = LogLevel.INFO
    users: Annotated[
        LogUsers,
        Meta(
            description="The form in which lines name users. hash: by the first digits of a SHA-256, which `peruserd "
            "name --hash` prints. name: by their names, in documents and databases as well. none: not at all."
        ),
    ] = LogUsers.HASH
    audit_file: Annotated[
        str | None,
        Meta(
            description="A file for the audit lines, one for each write to a user's access. Without this key they are "
            "in the log. Under the unit it must be below /var/log/peruserd. logrotate may rename it at any time."
        ),
    ] = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration. A table or key that is not given has its default."""

    couchdb: CouchDBConfig = CouchDBConfig()
    databases: DatabasesConfig = DatabasesConfig()
    security: SecurityConfig = SecurityConfig()
    templates: TemplatesConfig = TemplatesConfig()
    deletion: DeletionConfig = DeletionConfig()
    cluster: ClusterConfig = ClusterConfig()
    provisioning: ProvisioningConfig = ProvisioningConfig()
    audit: AuditConfig = AuditConfig()
    http: HTTPConfig = HTTPConfig()
    state: StateConfig = StateConfig()
    log: LogConfig = LogConfig()
