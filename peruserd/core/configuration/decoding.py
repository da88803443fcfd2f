"""Decoding of the configuration from a TOML file and the environment, strictly.

All mistakes are reported together, each with the file, the key's full path, the value and what is allowed. Passwords in
the URL are taken out here, before anything else can see them.
"""

import datetime as dt
import difflib
import tomllib
import unicodedata
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from msgspec import inspect

from peruserd.core.common.names import check_prefix, decode_database_name
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import ClusterConfig, Config, CouchDBConfig
from peruserd.core.configuration.hosts import is_host, is_url
from peruserd.core.configuration.services import is_of_service

ENVIRONMENT_PREFIX: Final = "PERUSERD_"
PASSWORD_VARIABLE: Final = "PERUSERD_COUCHDB_PASSWORD"  # noqa: S105 - the variable's name, not a password
PASSWORD_CREDENTIAL: Final = "couchdb-password"  # noqa: S105 - the credential's name, not a password

# Variables of this project's own tests, such as PERUSERD_TEST_CLUSTER.
_TESTS_PREFIX: Final = "PERUSERD_TEST_"

# Some editors on Windows write it before a text.
_BYTE_ORDER_MARK: Final = "\ufeff"

PLAIN_TEXT: Final = "a text"
"""The words for a key that accepts any text."""

_TABLES: Final = {field.name: field.type for field in msgspec.structs.fields(Config)}
_KEYS: Final = {
    table: {field.name: field for field in msgspec.structs.fields(struct)} for table, struct in _TABLES.items()
}

# The names of all variables, without the prefix.
_VARIABLES: Final = [
    PASSWORD_VARIABLE.removeprefix(ENVIRONMENT_PREFIX),
    *(f"{table}_{key}".upper() for table, keys in _KEYS.items() for key in keys),
]


class ConfigError(Exception):
    """The configuration cannot be used. `problems` are sentences, one for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Loaded(msgspec.Struct, frozen=True):
    """A configuration with a URL without credentials, and the credentials from the URL, if any."""

    config: Config
    username: str | None = None
    password: Secret | None = None


def load(text: str, environment: Mapping[str, str], source: str) -> Loaded:
    """Decode `text` (TOML), override it with `PERUSERD_<TABLE>_<KEY>` of `environment`, and check it.

    `source` is the file's name in messages. A byte order mark before the text is ignored. If a key has no default, a
    blank value counts as not given. Raises ConfigError with every problem found.
    """
    try:
        document = tomllib.loads(text.removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        # The parser raises other errors than its own for numbers with thousands of digits, and for deep nesting.
        raise ConfigError([f"{source}: not valid TOML: {error}"]) from error
    reading = _Reading(source)
    reading.take_document(document)
    reading.take_environment(environment)
    # A value that could not be read has its default here, so mistakes in other values are still found.
    loaded = _without_credentials(reading.config())
    problems = reading.problems + [
        f"{reading.origin(key)}: {key}: {problem}" for key, problem in _impossible(loaded.config)
    ]
    if problems:
        raise ConfigError(problems)
    return loaded


class _Reading:
    """The values read so far by table and key, their origins, and the mistakes."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._values: dict[str, dict[str, Any]] = {table: {} for table in _TABLES}
        self._origins: dict[str, str] = {}
        self.problems: list[str] = []

    def take_document(self, document: Mapping[str, Any]) -> None:
        """Take in the file."""
        for table, keys in document.items():
            if table not in _TABLES:
                self._complain(table, f"unknown table{_hint(table, _TABLES)}")
            elif not isinstance(keys, dict):
                self._complain(table, f"found {_found(keys)}, allowed is a table: [{table}]")
            else:
                for key, value in keys.items():
                    if key not in _KEYS[table]:
                        self._complain(f"{table}.{key}", f"unknown key{_hint(key, _KEYS[table])}")
                    else:
                        self._take(table, key, value, origin=self._source, strict=True)

    def take_environment(self, environment: Mapping[str, str]) -> None:
        """Take in the variables of the environment."""
        for variable in sorted(environment):
            origin = f"environment: {variable}"
            if (capitals := variable.upper()) != variable and capitals.startswith(ENVIRONMENT_PREFIX):
                # Two variables that differ only in their capitals would override each other by chance.
                self.problems.append(f"{origin}: such variables are named in capitals (did you mean {capitals}?)")
                continue
            if not _is_ours(variable, environment[variable]):
                continue
            table, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
            if table not in _TABLES or not key:
                self.problems.append(f"{origin}: no key has this variable{_variable_hint(variable)}")
            elif key not in _KEYS[table]:
                self.problems.append(f"{origin}: there is no key {table}.{key}{_hint(key, _KEYS[table])}")
            else:
                self._take(table, key, environment[variable], origin=origin, strict=False)

    def config(self) -> Config:
        """Return the configuration of these values, with defaults for the rest."""
        return Config(**{table: _TABLES[table](**keys) for table, keys in self._values.items()})

    def origin(self, key: str) -> str:
        """Say where the value of a key (its full path) came from."""
        return self._origins.get(key, self._source)

    def _take(self, table: str, key: str, value: object, *, origin: str, strict: bool) -> None:
        if _KEYS[table][key].default is None and is_blank(value):
            # The variable counts as not given, so the file's value is used. An empty path would be worse than none: an
            # empty `ca_file` once turned off the verification of the server.
            return
        wanted = _KEYS[table][key].type
        path = f"{table}.{key}"
        self._origins[path] = origin
        if isinstance(value, str) and not is_plain(value):
            self._complain(path, f"found {_found(value)}, allowed is a text in UTF-8 without control characters")
            return
        try:
            self._values[table][key] = msgspec.convert(value, wanted, strict=strict)
        except msgspec.ValidationError:
            self._complain(path, f"found {_found(value)}, allowed is {allowed_values(wanted)}")

    def _complain(self, path: str, problem: str) -> None:
        self.problems.append(f"{self.origin(path)}: {path}: {problem}")


def is_blank(value: object) -> bool:
    """Say whether a value is an empty text or only white space. Such a text is no name and no path."""
    return isinstance(value, str) and not value.strip()


def is_plain(text: str) -> bool:
    """Say whether a text has neither control characters nor bytes that are not UTF-8.

    A file of variables with Windows line ends leaves a carriage return at the end of each value. For bytes in the
    environment that are not UTF-8, Python makes surrogates.
    """
    return not any(unicodedata.category(each) in ("Cc", "Cs") for each in text)


def _found(value: object) -> str:
    """Return a value as it stands in the file, unless it could be a URL with a password."""
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    if isinstance(value, dt.date | dt.time):
        shown = value.isoformat()
    return "something with an @ in it (not shown: it may hold a password)" if "@" in shown else shown


def _hint(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else f"; known are {', '.join(known)}"


def _is_ours(variable: str, value: str) -> bool:
    """Say whether a variable must name a key, because it is not the password, a test's or a service's variable."""
    return (
        variable.startswith(ENVIRONMENT_PREFIX)
        and variable != PASSWORD_VARIABLE
        and not variable.startswith(_TESTS_PREFIX)
        and not is_of_service(variable, value)
    )


def _variable_hint(variable: str) -> str:
    word = variable.removeprefix(ENVIRONMENT_PREFIX)
    close = difflib.get_close_matches(word.upper(), _VARIABLES, n=1)
    return f" (did you mean {ENVIRONMENT_PREFIX}{close[0]}?)" if close else f"; tables are {', '.join(_TABLES)}"


def allowed_values(wanted: object) -> str:
    """Return in words which values a type of the configuration allows."""
    return _allowed(inspect.type_info(wanted))


def _allowed(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner):
            words = _allowed(inner)
        case inspect.UnionType(types=types):
            words = " or ".join(_allowed(each) for each in types if not isinstance(each, inspect.NoneType))
        case inspect.EnumType(cls=cls):
            words = "one of " + ", ".join(repr(each.value) for each in cls)
        case inspect.BoolType():
            words = "true or false"
        case inspect.IntType():
            words = "a whole number" + _bounds(kind)
        case inspect.FloatType():
            words = "a number" + _bounds(kind)
        case inspect.StrType(pattern=str(pattern)):
            words = f"a text of the form {pattern}"
        case inspect.StrType(min_length=1):
            words = "a text that is not empty"
        case _:
            words = PLAIN_TEXT
    return words


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    bounds = [f" {word} {value:.15g}" for name, word in words.items() if (value := getattr(kind, name)) is not None]
    return "".join(bounds)


def _without_credentials(config: Config) -> Loaded:
    try:
        parts = urlsplit(config.couchdb.url)
        host = parts.netloc.rpartition("@")[2]
        username = _decoded(parts.username) if parts.username else None
        password = Secret(_decoded(parts.password)) if parts.password else None
    except ValueError:
        # Not a URL at all; the check that follows says so.
        return Loaded(config)
    bare = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), parts.query, parts.fragment))
    couchdb: CouchDBConfig = msgspec.structs.replace(config.couchdb, url=bare)
    return Loaded(msgspec.structs.replace(config, couchdb=couchdb), username, password)


def _decoded(text: str) -> str:
    """Return a text without percent-encoding. Bytes that are not UTF-8 become surrogates, so a check can find them."""
    return unquote(text, errors="surrogateescape")


def _impossible(config: Config) -> list[tuple[str, str]]:
    """Return values that their types allow but that cannot be used, alone or together, each with the problem."""
    checks = [
        ("couchdb.url", _url_problem(config.couchdb.url)),
        (
            "couchdb.client_key",
            "found without couchdb.client_cert, allowed only beside it"
            if config.couchdb.client_key and not config.couchdb.client_cert
            else None,
        ),
        ("databases.prefix", _prefix_problem(config.databases.prefix)),
        ("couchdb.auth_db", _user_database_problem(config, config.couchdb.auth_db)),
        ("cluster.database", _database_problem(config)),
        ("cluster.lease_ttl", _lease_problem(config.cluster)),
        ("http.listen", _listen_problem(config.http.listen)),
        ("http.hosts", _hosts_problem(config.http.hosts)),
    ]
    return [(key, problem) for key, problem in checks if problem is not None]


def _database_problem(config: Config) -> str | None:
    database = config.cluster.database
    if database == config.couchdb.auth_db:
        return f"found {database!r}, allowed is a database of its own, not couchdb.auth_db"
    return _user_database_problem(config, database)


def _user_database_problem(config: Config, database: str) -> str | None:
    """Return in words why a database is a user's: somebody could sign up under that name and become its admin."""
    if (user := decode_database_name(config.databases.prefix, database)) is not None:
        return f"found {database!r}, which is the database of the user {user!r}, allowed is one that is no user's"
    return None


def _lease_problem(cluster: ClusterConfig) -> str | None:
    # A renewal is seen at the next look. So if one renewal is lost, there is no sign of life for twice both intervals.
    least = 2 * (cluster.lease_interval + cluster.poll_interval)
    if cluster.lease_ttl >= least:
        return None
    return (
        f"found {cluster.lease_ttl:g}, allowed is at least {least:g}: twice cluster.lease_interval and "
        "cluster.poll_interval together, so that one lost renewal is no death"
    )


def _url_problem(url: str) -> str | None:
    allowed = "allowed is http://host:port or https://host:port"
    try:
        is_usable = is_url(url)
    except ValueError:
        # The error's words may quote a password, because a password with a / or # is parsed as a port.
        return f"found something that is no URL (not shown: it may hold a password), {allowed}"
    return None if is_usable else f"found {_found(url)}, {allowed}"


def _prefix_problem(prefix: str) -> str | None:
    try:
        check_prefix(prefix)
    except ValueError as error:
        return f"found {prefix!r}: {error}"
    return None


def _listen_problem(listen: str) -> str | None:
    try:
        host, _ = split_address(listen)
    except ValueError as error:
        return f"found {listen!r}, allowed is address:port ({error})"
    return None if is_host(host) else f"found {listen!r}, allowed is address:port ({host!r} is no host)"


def _hosts_problem(hosts: str | None) -> str | None:
    wrong = [each for each in split_hosts(hosts) if not is_host(each) or ":" in each]
    return f"found {wrong[0]!r}, allowed are names of hosts, separated by commas" if wrong else None


def split_hosts(hosts: str | None) -> tuple[str, ...]:
    """Return the names of `a.example.org, b`, in lower case and without a dot at their end."""
    if hosts is None:
        return ()
    return tuple(each.strip().lower().removesuffix(".") for each in hosts.split(","))


def split_address(listen: str) -> tuple[str, int]:
    """Return the address and port of `127.0.0.1:9984` or `[::1]:9984`; raises ValueError for any other text."""
    host, separator, port = listen.rpartition(":")
    if not separator or not host:
        raise ValueError("a port must follow the address and a colon")
    if not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{port!r} is not a port")
    return host.removeprefix("[").removesuffix("]"), int(port)
