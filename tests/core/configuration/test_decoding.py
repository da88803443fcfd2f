import json
from typing import Any

import msgspec
import pytest

from peruserd.core.configuration.choices import Audience, WhenDeleted
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import ConfigError, Loaded, load, split_address
from peruserd.core.configuration.services import is_of_service

FILE = "/etc/peruserd.toml"
PASSWORD = "hunter2"
TABLES = {field.name: field.type for field in msgspec.structs.fields(Config)}
KEYS = [f"{table}.{key.name}" for table, struct in TABLES.items() for key in msgspec.structs.fields(struct)]

# A value other than the default for every key, as the environment gives it and as the configuration has it.
OVERRIDES: dict[str, tuple[str, Any]] = {
    "couchdb.url": ("https://db.example:6984", "https://db.example:6984"),
    "couchdb.username": ("5", "5"),
    "couchdb.password_file": ("/run/password", "/run/password"),
    "couchdb.auth_db": ("auth", "auth"),
    "couchdb.node": ("couchdb@10.0.0.1", "couchdb@10.0.0.1"),
    "couchdb.ca_file": ("/etc/ca.pem", "/etc/ca.pem"),
    "couchdb.client_cert": ("/etc/cert.pem", "/etc/cert.pem"),
    "couchdb.client_key": ("/etc/key.pem", "/etc/key.pem"),
    "couchdb.connect_timeout": ("2", 2.0),
    "couchdb.read_timeout": ("7.5", 7.5),
    "couchdb.long_poll_timeout": ("12.5", 12.5),
    "couchdb.feed": ("database", "database"),
    "databases.prefix": ("people/", "people/"),
    "databases.q": ("2", 2),
    "databases.n": ("3", 3),
    "databases.placement": ("metro:2", "metro:2"),
    "databases.partitioned": ("true", True),
    "databases.when_deleted": ("report", WhenDeleted.REPORT),
    "security.grant": ("member", "member"),
    "templates.directory": ("/etc/peruserd/templates", "/etc/peruserd/templates"),
    "deletion.policy": ("drop", "drop"),
    "deletion.grace_period": ("0", 0.0),
    "deletion.max_drops": ("5", 5),
    "deletion.per_seconds": ("60", 60.0),
    "deletion.on_return": ("hold", "hold"),
    "cluster.database": ("leases", "leases"),
    "cluster.poll_interval": ("1.5", 1.5),
    "cluster.quiet_period": ("0", 0.0),
    "cluster.lease_interval": ("3", 3.0),
    "cluster.lease_ttl": ("60", 60.0),
    "provisioning.max_in_flight": ("47", 47),
    "provisioning.max_new_per_minute": ("600", 600),
    "audit.interval": ("3600", 3600.0),
    "audit.rate": ("2.5", 2.5),
    "http.listen": ("[::1]:0", "[::1]:0"),
    "http.users": ("everybody", Audience.EVERYBODY),
    "http.hosts": ("peruserd.example.org", "peruserd.example.org"),
    "http.ready_lag": ("120", 120.0),
    "state.directory": ("/srv/state", "/srv/state"),
    "log.format": ("json", "json"),
    "log.level": ("debug", "debug"),
    "log.users": ("none", "none"),
    "log.audit_file": ("/var/log/audit", "/var/log/audit"),
}
# The keys without which another one cannot be set.
COMPANIONS = {"couchdb.client_key": {"PERUSERD_COUCHDB_CLIENT_CERT": "/etc/cert.pem"}}


def _variable(key: str) -> str:
    return "PERUSERD_" + key.upper().replace(".", "_")


def _value(config: Config, key: str) -> Any:
    table, name = key.split(".")
    return getattr(getattr(config, table), name)


def _problems(text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, environment or {}, FILE)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_an_empty_file_gives_the_defaults() -> None:
    """Nothing has to be configured, and nothing is a secret then."""
    assert load("", {}, FILE) == Loaded(Config())


@pytest.mark.parametrize("key", KEYS)
def test_every_key_can_be_overridden_by_the_environment(key: str) -> None:
    """`PERUSERD_<TABLE>_<KEY>` sets its key, converted to the key's type, and no other."""
    text, expected = OVERRIDES[key]
    config = load("", {_variable(key): text, **COMPANIONS.get(key, {})}, FILE).config
    assert _value(Config(), key) != expected
    assert _value(config, key) == expected
    assert type(_value(config, key)) is type(expected) or isinstance(expected, str)
    same = [other for other in KEYS if _value(config, other) == _value(Config(), other)]
    assert set(same) >= set(KEYS) - {key, "couchdb.client_cert"}


OPTIONAL = [key for key in KEYS if _value(Config(), key) is None]


@pytest.mark.parametrize("blank", ["", "  ", "\t"], ids=["empty", "spaces", "tab"])
@pytest.mark.parametrize("key", OPTIONAL)
def test_a_blank_optional_key_is_not_given(key: str, blank: str) -> None:
    """Neither the file's nor the environment's blank is a value: an empty `ca_file` must not turn verification off."""
    table, name = key.split(".")
    assert load(f"[{table}]\n{name} = {json.dumps(blank)}", {}, FILE) == Loaded(Config())
    assert load("", {_variable(key): blank}, FILE) == Loaded(Config())


def test_a_blank_variable_leaves_what_the_file_says() -> None:
    """It is not given, so it takes nothing away either."""
    text = '[couchdb]\nca_file = "/etc/ca.pem"\n[databases]\nn = 2'
    config = load(text, {"PERUSERD_COUCHDB_CA_FILE": "", "PERUSERD_DATABASES_N": " "}, FILE).config
    assert (config.couchdb.ca_file, config.databases.n) == ("/etc/ca.pem", 2)


def test_the_environment_goes_before_the_file() -> None:
    """A key given in both has the environment's value; the file's other keys stay."""
    text = '[couchdb]\nauth_db = "from_file"\nusername = "adm"\n'
    config = load(text, {"PERUSERD_COUCHDB_AUTH_DB": "from_environment"}, FILE).config
    assert (config.couchdb.auth_db, config.couchdb.username) == ("from_environment", "adm")


@pytest.mark.parametrize(
    "variable", ["PATH", "PERUSERD", "PERUSERD_TEST_CLUSTER", "XPERUSERD_COUCHDB_URL", "PERUSERD_COUCHDB_PASSWORD"]
)
def test_variables_that_are_no_key_are_left_alone(variable: str) -> None:
    """Variables of others, and the password, which is no key, neither disturb nor get into the configuration."""
    assert load("", {variable: PASSWORD}, FILE) == Loaded(Config())


# The variables that Kubernetes, and links of Docker, give to each container for a service: here for services with the
# names peruserd, peruserd-http and peruserd-couchdb.
SERVICES = {
    "PERUSERD_SERVICE_HOST": "10.0.0.1",
    "PERUSERD_SERVICE_PORT": "80",
    "PERUSERD_SERVICE_PORT_METRICS": "9984",
    "PERUSERD_PORT": "tcp://10.0.0.1:80",
    "PERUSERD_PORT_80_TCP": "tcp://10.0.0.1:80",
    "PERUSERD_PORT_80_TCP_PROTO": "tcp",
    "PERUSERD_PORT_80_TCP_PORT": "80",
    "PERUSERD_PORT_80_TCP_ADDR": "10.0.0.1",
    "PERUSERD_HTTP_PORT": "tcp://[fd00::1]:80",
    "PERUSERD_HTTP_SERVICE_HOST": "fd00::1",
    "PERUSERD_HTTP_SERVICE_PORT": "80",
    "PERUSERD_HTTP_SERVICE_PORT_HTTP_METRICS": "80",
    "PERUSERD_HTTP_PORT_53_UDP_ADDR": "10.0.0.1",
    "PERUSERD_COUCHDB_PORT": "sctp://10.0.0.1:5984",
    "PERUSERD_COUCHDB_PORT_5984_SCTP_ADDR": "10.0.0.1",
}


@pytest.mark.parametrize("variable", SERVICES)
def test_variables_of_services_are_passed_over(variable: str) -> None:
    """Kubernetes sets them for a service that is called peruserd, in every container of the namespace."""
    assert load("", {variable: SERVICES[variable]}, FILE) == Loaded(Config())


def test_no_key_is_taken_for_a_variable_of_a_service() -> None:
    """A key that is given counts, with any value."""
    values = [*SERVICES.values(), *(text for text, _ in OVERRIDES.values())]
    assert not [key for key in KEYS for value in values if is_of_service(_variable(key), value)]


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("PERUSERD_DELETON_POLICY", "keep", "did you mean PERUSERD_DELETION_POLICY?"),
        ("PERUSERD_DATABASE_PREFIX", "u-", "did you mean PERUSERD_DATABASES_PREFIX?"),
        ("PERUSERD_LOGLEVEL", "debug", "did you mean PERUSERD_LOG_LEVEL?"),
        ("PERUSERD_COUCH_DB_URL", "http://db:5984", "did you mean PERUSERD_COUCHDB_URL?"),
        ("PERUSERD_COUCHDB", "http://db:5984", "did you mean PERUSERD_COUCHDB_"),
        ("PERUSERD_PASSWORD", PASSWORD, "did you mean PERUSERD_COUCHDB_PASSWORD?"),
        ("PERUSERD_VERSION", "1", "tables are couchdb, databases, security, templates, "),
        ("PERUSERD_HTTP_PORT", "9984", "there is no key http.port; known are listen"),
        ("PERUSERD_PORT", "9984", "no key has this variable"),
        ("PERUSERD_SERVICE_PORT", "tcp", "no key has this variable"),
        ("PERUSERD_PORT_80_TCP_ADDR", "", "no key has this variable"),
    ],
)
def test_a_variable_that_is_no_key_is_named_with_the_nearest(variable: str, value: str, hint: str) -> None:
    """A mistyped table would leave a default in force that nobody chose; the value is not shown."""
    (problem,) = _problems("", {variable: value})
    assert problem.startswith(f"environment: {variable}: ")
    assert hint in problem
    assert PASSWORD not in problem


def test_a_byte_order_mark_before_the_file_is_passed_over() -> None:
    """Editors of Windows write one; it is no part of the first key."""
    assert load('\ufeff[databases]\nprefix = "u-"', {}, FILE).config.databases.prefix == "u-"
    assert load("\ufeff", {}, FILE) == Loaded(Config())


@pytest.mark.parametrize(
    ("text", "key", "found", "allowed"),
    [
        # unknown
        ("[couchbd]", "couchbd", "unknown table", "did you mean couchdb?"),
        ("[x]", "x", "unknown table", "known are couchdb, databases, security, templates, "),
        ('[couchdb]\nulr = "x"', "couchdb.ulr", "unknown key", "did you mean url?"),
        ("[log]\nx = 1", "log.x", "unknown key", "known are format, level"),
        ('[couchdb]\npassword = "hunter2"', "couchdb.password", "unknown key", "did you mean password_file?"),
        ("url = 1", "url", "unknown table", "known are couchdb,"),
        ("[couchdb.tls]", "couchdb.tls", "unknown key", "known are url, username,"),
        # of a wrong type
        ("couchdb = 5", "couchdb", "found 5", "a table: [couchdb]"),
        ("[[log]]", "log", "found [{}]", "a table: [log]"),
        ("[couchdb]\nurl = 5984", "couchdb.url", "found 5984", "a text"),
        ("[couchdb]\nusername = true", "couchdb.username", "found true", "a text"),
        ('[couchdb]\nread_timeout = "30"', "couchdb.read_timeout", "found '30'", "a number above 0 up to 86400"),
        ("[databases]\nq = 1.5", "databases.q", "found 1.5", "a whole number from 1"),
        ("[databases]\nn = true", "databases.n", "found true", "a whole number from 1"),
        ("[databases]\npartitioned = 1", "databases.partitioned", "found 1", "true or false"),
        ("[http]\nlisten = 9984", "http.listen", "found 9984", "a text"),
        # of an impossible value
        ('[couchdb]\nfeed = "Shard"', "couchdb.feed", "found 'Shard'", "one of 'auto', 'shard', 'database'"),
        ('[deletion]\npolicy = ""', "deletion.policy", "found ''", "one of 'revoke', 'keep', 'drop'"),
        ('[log]\nformat = "xml"', "log.format", "found 'xml'", "one of 'auto', 'json', 'console'"),
        ('[log]\nlevel = "TRACE"', "log.level", "found 'TRACE'", "one of 'debug', 'info', 'warning', 'error'"),
        ('[couchdb]\nauth_db = "Users"', "couchdb.auth_db", "found 'Users'", "a text of the form"),
        ('[couchdb]\nnode = ""', "couchdb.node", "found ''", "a text that is not empty"),
        ("[couchdb]\nconnect_timeout = 0", "couchdb.connect_timeout", "found 0", "a number above 0 up to 86400"),
        ("[couchdb]\nread_timeout = inf", "couchdb.read_timeout", "found inf", "a number above 0 up to 86400"),
        ("[couchdb]\nlong_poll_timeout = 60", "couchdb.long_poll_timeout", "found 60", "a number from 1 up to 25"),
        ("[cluster]\npoll_interval = nan", "cluster.poll_interval", "found nan", "a number above 0 up to 86400"),
        ("[cluster]\nquiet_period = -1", "cluster.quiet_period", "found -1", "a number from 0 up to 3600"),
        ("[databases]\nq = 0", "databases.q", "found 0", "a whole number from 1"),
        ("[deletion]\nmax_drops = 0", "deletion.max_drops", "found 0", "a whole number from 1 up to 1000000000"),
        ("[provisioning]\nmax_in_flight = 1025", "provisioning.max_in_flight", "found 1025", "from 1 up to 1024"),
        # impossible alone or together, as the whole shows
        ('[couchdb]\nurl = "localhost:5984"', "couchdb.url", "found 'localhost:5984'", "http://host:port or https://"),
        ('[couchdb]\nurl = "ftp://host"', "couchdb.url", "found 'ftp://host'", "http://host:port or https://"),
        ('[couchdb]\nurl = "http://:5984"', "couchdb.url", "found 'http://:5984'", "http://host:port or https://"),
        ('[couchdb]\nurl = "http://h:0"', "couchdb.url", "found 'http://h:0'", "http://host:port or https://"),
        ('[couchdb]\nurl = "http://h:99999"', "couchdb.url", "found something", "http://host:port or https://"),
        ('[couchdb]\nurl = "http://h?q=1"', "couchdb.url", "found 'http://h?q=1'", "http://host:port or https://"),
        ('[couchdb]\nclient_key = "k"', "couchdb.client_key", "found without couchdb.client_cert", "beside it"),
        ('[databases]\nprefix = "User-"', "databases.prefix", "found 'User-'", "begins with a letter a-z"),
        ('[databases]\nprefix = ""', "databases.prefix", "found ''", "begins with a letter a-z"),
        (f'[databases]\nprefix = "{"a" * 237}"', "databases.prefix", "found 'aaa", "leaves room for a name"),
        ('[cluster]\ndatabase = "_users"', "cluster.database", "found '_users'", "a text of the form"),
        ('[cluster]\ndatabase = ""', "cluster.database", "found ''", "a text of the form"),
        (f'[cluster]\ndatabase = "{"a" * 201}"', "cluster.database", "found 'aaa", "a text of the form"),
        ('[cluster]\ndatabase = "userdb-626f62"', "cluster.database", "the database of the user 'bob'", "no user's"),
        ('[couchdb]\nauth_db = "userdb-626f62"', "couchdb.auth_db", "the database of the user 'bob'", "no user's"),
        (
            '[cluster]\ndatabase = "a"\n[couchdb]\nauth_db = "a"',
            "cluster.database",
            "found 'a'",
            "a database of its own, not couchdb.auth_db",
        ),
        ("[cluster]\nlease_ttl = 13.9", "cluster.lease_ttl", "found 13.9", "at least 14: twice cluster.lease_interval"),
        ('[http]\nlisten = "9984"', "http.listen", "found '9984'", "address:port"),
        ('[http]\nlisten = "host:http"', "http.listen", "found 'host:http'", "address:port"),
        ('[http]\nhosts = "a.example.org, http://b"', "http.hosts", "found 'http://b'", "names of hosts"),
        ('[http]\nhosts = "a.example.org:9984"', "http.hosts", "found 'a.example.org:9984'", "names of hosts"),
        ('[http]\nhosts = "a,,b"', "http.hosts", "found ''", "names of hosts"),
    ],
)
def test_a_mistake_is_shown_with_what_is_allowed(text: str, key: str, found: str, allowed: str) -> None:
    """One mistake is one problem, which names the file, the key's full path, what was found and what is allowed."""
    (problem,) = _problems(text)
    assert problem.startswith(f"{FILE}: {key}: ")
    assert found in problem
    assert allowed in problem


@pytest.mark.parametrize(
    ("variable", "value", "key", "found", "allowed"),
    [
        ("PERUSERD_DATABASES_Q", "many", "databases.q", "found 'many'", "a whole number from 1"),
        ("PERUSERD_DATABASES_Q", "0", "databases.q", "found '0'", "a whole number from 1"),
        ("PERUSERD_DATABASES_PARTITIONED", "yes", "databases.partitioned", "found 'yes'", "true or false"),
        ("PERUSERD_CLUSTER_QUIET_PERIOD", "nan", "cluster.quiet_period", "found 'nan'", "a number from 0"),
        ("PERUSERD_CLUSTER_QUIET_PERIOD", "", "cluster.quiet_period", "found ''", "a number from 0"),
        ("PERUSERD_LOG_LEVEL", "loud", "log.level", "found 'loud'", "one of 'debug'"),
        ("PERUSERD_COUCHDB_ULR", "http://h", "couchdb.ulr", "there is no key", "did you mean url?"),
    ],
)
def test_a_mistake_in_the_environment_names_its_variable(
    variable: str, value: str, key: str, found: str, allowed: str
) -> None:
    """A mistake in the environment is not looked for in the file."""
    (problem,) = _problems("", {variable: value})
    assert problem.startswith(f"environment: {variable}: ")
    assert FILE not in problem
    assert key in problem
    assert found in problem
    assert allowed in problem


def test_all_mistakes_are_found_in_one_go() -> None:
    """File and environment are read to the end, so that nobody mends one mistake a start."""
    problems = _problems("[databases]\nq = 0\nx = 1\n[y]\n[log]\nlevel = 3", {"PERUSERD_LOG_FORMAT": "xml"})
    assert [problem.rsplit(": ", 2)[1] for problem in problems] == [
        "databases.q",
        "databases.x",
        "y",
        "log.level",
        "log.format",
    ]


def test_all_that_the_whole_shows_is_found_in_one_go() -> None:
    """Values that are impossible together are all named, too."""
    problems = _problems('[couchdb]\nurl = "x"\n[databases]\nprefix = "X"\n[http]\nlisten = "x"')
    assert [problem.split(": ")[1] for problem in problems] == ["couchdb.url", "databases.prefix", "http.listen"]


def test_a_file_that_is_no_toml_is_named_with_the_place() -> None:
    """A syntax error says which file and where in it."""
    (problem,) = _problems('[couchdb]\nurl = "http://h"\nusername = \n')
    assert problem.startswith(f"{FILE}: not valid TOML: ")
    assert "line 3" in problem


@pytest.mark.parametrize("text", ["a = " + "[" * 10_000, "[databases]\nq = " + "9" * 5_000])
def test_a_file_that_the_parser_gives_up_is_no_toml(text: str) -> None:
    """The parser raises other errors for endless nesting and endless numbers."""
    (problem,) = _problems(text)
    assert problem.startswith(f"{FILE}: not valid TOML: ")


NO_HOSTS = ["a..b", ".a", "*.example", "ex ample", "{host}", "a" * 64, "127.0.0.1%31", "[::g]"]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_an_error_of_the_configuration(host: str) -> None:
    """Otherwise the first request, or the page, would fail with an error that nobody foresees."""
    for key, value in (("couchdb.url", f"http://{host}:5984"), ("http.listen", f"{host}:9984")):
        table, name = key.split(".")
        (problem,) = _problems(f"[{table}]\n{name} = {json.dumps(value)}")
        assert problem.startswith(f"{FILE}: {key}: found ")


@pytest.mark.parametrize("host", ["h", "h.", "10.0.0.1", "[fe80::1%25eth0]", "my_couch-1.local", "höst.example"])
def test_what_is_a_host_can_be_configured(host: str) -> None:
    """Names of containers, of other scripts, and addresses with a zone."""
    assert load(f'[couchdb]\nurl = "http://{host}:5984"', {}, FILE).config.couchdb.url == f"http://{host}:5984"


@pytest.mark.parametrize("path", ["/a b", "/ü"])
def test_a_path_that_cannot_stand_in_a_request_is_an_error(path: str) -> None:
    """It has to be percent-encoded."""
    (problem,) = _problems(f'[couchdb]\nurl = "http://h{path}"')
    assert problem.startswith(f"{FILE}: couchdb.url: found ")


@pytest.mark.parametrize("odd", ["x\r", "a\0b", "\x1b[2J", "\udcff"])
@pytest.mark.parametrize("key", [key for key in KEYS if isinstance(OVERRIDES[key][1], str)])
def test_no_value_has_characters_that_nobody_sees(key: str, odd: str) -> None:
    """A carriage return of a file from Windows, a zero byte, and bytes that are not UTF-8 are named."""
    (problem,) = _problems("", {_variable(key): odd, **COMPANIONS.get(key, {})})
    assert problem.startswith(f"environment: {_variable(key)}: {key}: found ")
    assert problem.isprintable()


@pytest.mark.parametrize("variable", ["peruserd_couchdb_url", "PERUSERD_CouchDB_URL", "Peruserd_Couchdb_Password"])
def test_a_variable_that_is_not_in_capitals_is_named(variable: str) -> None:
    """It would be passed over, or override the other one by chance; the value is not shown."""
    (problem,) = _problems("", {variable: PASSWORD})
    assert problem.startswith(f"environment: {variable}: ")
    assert f"did you mean {variable.upper()}?" in problem
    assert PASSWORD not in problem


@pytest.mark.parametrize("key", ["q", "n"])
@pytest.mark.parametrize("value", [1_025, 10**30])
def test_no_database_has_more_shards_than_a_node_can_make(key: str, value: int) -> None:
    """A node that is asked for millions of them goes down."""
    (problem,) = _problems(f"[databases]\n{key} = {value}")
    assert problem.endswith("allowed is a whole number from 1 up to 1024")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9984", ("127.0.0.1", 9984)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_split_at_its_port(listen: str, address: tuple[str, int]) -> None:
    """Address and port come apart, and an IPv6 address out of its brackets."""
    assert split_address(listen) == address


@pytest.mark.parametrize("listen", ["", "9984", ":9984", "host", "host:", "host:http", "host:-1", "host:65536"])
def test_what_is_no_address_with_a_port_is_refused(listen: str) -> None:
    """Without an address or a possible port there is nothing to listen on."""
    with pytest.raises(ValueError, match="port"):
        split_address(listen)


def test_every_mistake_is_found_in_one_go() -> None:
    """Unreadable and unusable values are reported together, each once."""
    text = '[couchdb]\nurl = "ftp://x"\n[databases]\nq = 0\nprefix = "X"\n[tables]\n'
    keys = sorted(problem.removeprefix(f"{FILE}: ").partition(":")[0] for problem in _problems(text))
    assert keys == ["couchdb.url", "databases.prefix", "databases.q", "tables"]


def test_a_value_of_the_environment_that_cannot_be_used_is_blamed_on_its_variable() -> None:
    """A reader of the file would look there in vain."""
    with pytest.raises(ConfigError) as caught:
        load("", {"PERUSERD_COUCHDB_URL": "ftp://x"}, FILE)
    (problem,) = caught.value.problems
    assert problem.startswith("environment: PERUSERD_COUCHDB_URL: couchdb.url: found 'ftp://x'")
