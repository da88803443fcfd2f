"""couch_peruser's settings, and the configuration that does the same."""

import tomllib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import Config, CouchDBConfig
from peruserd.core.configuration.decoding import is_plain, load
from peruserd.core.migration.settings import (
    Peruser,
    Sharing,
    as_configured,
    as_toml,
    differences,
    leading,
    obstacles,
    peruser_of,
    shared,
    unpadded_names,
)

S = "couch_peruser"


def test_nothing_given_is_what_couchdb_does_then() -> None:
    """couch_peruser is off by default, and follows `_users`."""
    assert peruser_of({}) == Peruser()
    found = Peruser()
    assert (found.enable, found.delete_dbs, found.database_prefix, found.q) == (False, False, "userdb-", 1)
    assert (found.auth_db, found.users_elsewhere, found.default_security) == ("_users", None, "admin_only")


def test_settings_are_read_as_couchdb_reads_them() -> None:
    """An invalid number or boolean counts as not given."""
    given = {
        (S, "enable"): "true",
        (S, "delete_dbs"): "True",
        (S, "database_prefix"): "u-",
        (S, "q"): "8",
        (S, "cluster_quiet_period"): "-30",
        (S, "cluster_start_period"): "soon",
        ("couch_httpd_auth", "authentication_db"): "people",
        ("couchdb", "default_security"): "everyone",
    }
    found = peruser_of(given)
    assert found == Peruser(
        enable=True,
        database_prefix="u-",
        q=8,
        cluster_quiet_period=30,
        auth_db="people",
        users_elsewhere="_users",
        default_security="everyone",
    )
    assert peruser_of({(S, "q"): "2.5"}).q == peruser_of({(S, "q"): "9" * 30}).q == 1
    assert "CouchDB looks for users in '_users'" in " ".join(obstacles(found))


@pytest.mark.parametrize(
    ("peruser", "about"),
    [(Peruser(database_prefix="User-"), "prefix"), (Peruser(q=0), "q = 0"), (Peruser(q=-1), "q =")],
)
def test_what_cannot_be_kept_is_said(peruser: Peruser, about: str) -> None:
    """A prefix that no database can have, and no shards at all."""
    assert [each for each in obstacles(peruser) if about in each]
    assert as_configured(peruser, Config()).databases.q == 1
    assert obstacles(Peruser(q=1_025))
    assert as_configured(Peruser(q=1_025), Config()).databases.q == 1_024
    assert obstacles(Peruser()) == []


def test_deletions_are_as_they_were() -> None:
    """Without delete_dbs a name is taken out and the database stays; with it the database goes at once."""
    stays = as_configured(Peruser(), Config()).deletion
    assert (stays.policy, stays.grace_period) == (DeletionPolicy.REVOKE, 604_800.0)
    goes = as_configured(Peruser(delete_dbs=True), Config()).deletion
    assert (goes.policy, goes.grace_period) == (DeletionPolicy.DROP, 0.0)


@settings(max_examples=40)
@given(
    st.booleans(),
    st.text("ab19_$()+/-", max_size=8).map("u".__add__),
    st.integers(1, 99),
    st.one_of(st.none(), st.text(min_size=1).filter(lambda text: text.strip() and is_plain(text))),
)
def test_the_text_says_what_the_configuration_is(
    delete_dbs: bool,  # noqa: FBT001 - hypothesis draws it
    prefix: str,
    q: int,
    username: str | None,
) -> None:
    """For any settings, the daemon accepts the printed file, and it means the same."""
    peruser = Peruser(delete_dbs=delete_dbs, database_prefix=prefix, q=q)
    config = as_configured(peruser, Config(couchdb=CouchDBConfig(username=username)))
    assert load(as_toml(config), {}, "printed").config == config


def test_the_text_keeps_what_the_server_is_reached_with() -> None:
    """The daemon would not get to the server with the defaults; the account of the url is named as well."""
    text = """
        [couchdb]
        url = "https://adm:pass@couch.example"
        ca_file = "/etc/our-ca.pem"
        read_timeout = 12.5
        feed = "database"
        [deletion]
        max_drops = 7
        [databases]
        partitioned = true
        placement = "a:2"
        [http]
        users = "nobody"
    """
    loaded = load(text, {}, "test")
    made = as_configured(Peruser(delete_dbs=True, q=3), loaded.config, loaded.username)
    printed = as_toml(made)
    assert load(printed, {}, "printed").config == made
    assert "pass@" not in printed
    assert (made.couchdb.username, made.couchdb.ca_file, made.databases.q) == ("adm", "/etc/our-ca.pem", 3)


def test_the_text_cannot_steer_a_terminal() -> None:
    """Settings come from a server, and anything may have answered for it."""
    text = as_toml(Config(couchdb=CouchDBConfig(username="a\x1b[2J\u202eb\x7f", auth_db='x"\nq = 9')))
    assert text.replace("\n", "").isprintable()
    assert tomllib.loads(text)["couchdb"]["username"] == "a\x1b[2J\u202eb\x7f"
    assert tomllib.loads(text)["couchdb"]["auth_db"] == 'x"\nq = 9'


def test_the_text_has_no_password_and_names_what_is_not_the_default() -> None:
    """A file for the password is named in a comment, where none is configured."""
    text = as_toml(as_configured(Peruser(auth_db="people"), Config(couchdb=CouchDBConfig(username="adm"))))
    assert '# password_file = "/etc/peruserd/couchdb-password"' in text
    assert 'auth_db = "people"' in text
    assert 'password_file = "/p"' in as_toml(Config(couchdb=CouchDBConfig(password_file="/p"))).splitlines()


def test_nodes_that_differ_are_told_apart_and_most_of_those_that_are_on_are_gone_by() -> None:
    """A node on which it is off says nothing about what it does where it is on."""
    off, on = Peruser(), Peruser(enable=True, q=4)
    assert leading({"a": off, "b": off, "c": on}) == on
    assert leading({"a": off, "b": off, "c": msgspec.structs.replace(off, q=2)}) == off
    found = differences({"c": on, "b": off, "a": off})
    assert [(each.setting, each.values) for each in found] == [
        ("enable", {"false": ("a", "b"), "true": ("c",)}),
        ("q", {"1": ("a", "b"), "4": ("c",)}),
    ]
    assert differences({"a": on, "b": on}) == []
    with pytest.raises(ValueError, match="no node"):
        leading({})


def test_users_share_a_database_where_a_digit_is_left_out() -> None:
    r"""`\x01#` and `\x12\x03` are both 123; `\x01\x02` is what `\x12` is."""
    users = ["\x01#", "\x12\x03", "\x01\x02", "\x12", "\x0f", "alice", "", "x" * 200]
    assert shared("u-", users) == [Sharing("u-12", ("\x01\x02", "\x12")), Sharing("u-123", ("\x01#", "\x12\x03"))]
    assert shared("u-", ["\x01\x02", "alice"]) == []
    assert unpadded_names("u-", users) == {"\x01#": "u-123", "\x12\x03": "u-123", "\x01\x02": "u-12", "\x0f": "u-f"}


@given(st.lists(st.text("\x01\x02\x10\x12a", min_size=1, max_size=3), unique=True))
def test_everybody_who_shares_is_named(users: list[str]) -> None:
    """The expected result comes from comparing each user with each."""

    def peruser_name(user: str) -> str:
        return "u-" + "".join(f"{byte:x}" for byte in user.encode())

    names = [peruser_name(each) for each in users]
    twice = {each for each in names if names.count(each) > 1}
    expected = {name: tuple(sorted(each for each in users if peruser_name(each) == name)) for name in twice}
    assert {each.database: each.users for each in shared("u-", users)} == expected
