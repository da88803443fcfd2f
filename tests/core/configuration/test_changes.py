from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.configuration.changes import EFFECTS, Changes, Effect, Settings, compare, taken_over
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import ConfigError, load
from tests.core.configuration.test_decoding import KEYS, OVERRIDES

PLAIN = Settings(Config(), account="adm")


def with_keys(config: Config, **values: Any) -> Config:
    """Return the configuration with other values of these keys, named as `table__key`."""
    for path, value in values.items():
        table, key = path.split("__")
        changed = msgspec.structs.replace(getattr(config, table), **{key: value})
        config = msgspec.structs.replace(config, **{table: changed})
    return config


def changed(**values: Any) -> Changes:
    """Return what differs from the defaults where these keys have other values."""
    return compare(PLAIN, Settings(with_keys(Config(), **values), account="adm"))


def test_each_key_has_an_effect() -> None:
    """Whoever adds a key must say what its change needs in a running instance."""
    assert list(EFFECTS) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_a_change_is_named_with_its_effect(key: str) -> None:
    """Every key is compared. The new value is in force unless the key waits for a restart."""
    after = with_keys(Config(), **{key.replace(".", "__"): OVERRIDES[key][1]})
    found = compare(PLAIN, Settings(after, account="adm"))
    by_effect = {Effect.AT_ONCE: found.at_once, Effect.LISTENERS: found.listeners, Effect.RESTART: found.kept}
    assert by_effect == {effect: ((key,) if effect is EFFECTS[key] else ()) for effect in Effect}
    assert taken_over(Config(), after, found) == (Config() if found.kept else after)


def test_the_same_settings_have_no_changes() -> None:
    """A reload of the same file changes nothing."""
    assert not compare(PLAIN, PLAIN)


def test_the_content_of_the_templates_counts() -> None:
    """The directory is the same, and a file in it is another one."""
    after = msgspec.structs.replace(PLAIN, templates="another digest")
    assert compare(PLAIN, after) == Changes(listeners=("templates.directory",))


def test_the_account_stays_where_the_server_moves() -> None:
    """Otherwise the password of the new server would be sent to the old one."""
    found = changed(couchdb__url="http://elsewhere:5984", couchdb__password_file="/new", log__level="debug")
    assert found.kept == ("couchdb.url", "couchdb.password_file")
    assert found.at_once == ("log.level",)
    assert found.keeps_account


def test_another_account_is_taken_over() -> None:
    """Its name can also come from the address, which has no credentials any more when it is compared."""
    found = compare(PLAIN, msgspec.structs.replace(PLAIN, account="other"))
    assert found == Changes(at_once=("couchdb.username",))
    assert not found.keeps_account


@pytest.mark.parametrize("accounts", [(None, "adm"), ("adm", None)])
def test_an_instance_does_not_begin_to_log_in_while_it_runs(accounts: tuple[str | None, str | None]) -> None:
    """Whether requests carry an account at all is decided at the start."""
    before, after = (Settings(Config(), account=account) for account in accounts)
    found = compare(before, after)
    assert found == Changes(kept=("couchdb.username",))
    assert found.keeps_account


@given(st.lists(st.sets(st.sampled_from(KEYS)), min_size=2, max_size=2))
def test_what_is_in_force_after_a_reload_is_valid(both: list[set[str]]) -> None:
    """The checks of keys together hold for the mixture of old and new values, if they held for both files."""
    environments = [{f"PERUSERD_{key.replace('.', '_').upper()}": OVERRIDES[key][0] for key in keys} for keys in both]
    try:
        before, after = (load("", environment, "file").config for environment in environments)
    except ConfigError:
        return
    mixture = taken_over(before, after, compare(Settings(before, "adm"), Settings(after, "adm")))
    tables = {
        table: {key: value for key, value in keys.items() if value is not None}
        for table, keys in msgspec.to_builtins(mixture).items()
    }
    assert load(_toml(tables), {}, "mixture").config == mixture


def _toml(tables: dict[str, dict[str, Any]]) -> str:
    """Write tables as TOML; these texts, numbers and booleans look like JSON's."""
    lines = []
    for table, keys in tables.items():
        lines += [f"[{table}]", *(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in keys.items())]
    return "\n".join(lines)
