"""The part of the configuration that all instances must share, and the instances that differ."""

from typing import Any

import msgspec
import pytest

from peruserd.core.cluster import agreement
from peruserd.core.cluster.agreement import differing
from peruserd.core.cluster.leases import Lease
from peruserd.core.configuration.choices import DeletionPolicy, Grant, WhenDeleted
from peruserd.core.configuration.config import Config, DatabasesConfig, DeletionConfig, SecurityConfig, TemplatesConfig
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates


def configuration_digest(config: Config, templates: Templates = NO_TEMPLATES) -> str:
    """Return the digest of a configuration, without templates where nothing is said of them."""
    return agreement.configuration_digest(config, templates)


DEFAULT = configuration_digest(Config())


def test_equal_configurations_have_equal_digests() -> None:
    """Keys that each instance has for itself (its node's address, its state directory) make no difference."""
    others = msgspec.structs.replace(
        Config(),
        couchdb=msgspec.structs.replace(Config().couchdb, url="http://elsewhere:5984", username="adm"),
        http=msgspec.structs.replace(Config().http, listen="[::1]:1"),
        state=msgspec.structs.replace(Config().state, directory="/srv"),
    )
    assert configuration_digest(others) == DEFAULT
    assert len(DEFAULT) == 16


@pytest.mark.parametrize("key", [field.name for field in msgspec.structs.fields(DatabasesConfig)])
def test_every_key_of_the_databases_counts(key: str) -> None:
    """Two instances that make databases in different ways are told apart, by whichever key."""
    values: dict[str, Any] = {"prefix": "other-", "q": 7, "n": 7, "placement": "z:1", "partitioned": True}
    values["when_deleted"] = WhenDeleted.REPORT
    databases = msgspec.structs.replace(DatabasesConfig(), **{key: values[key]})
    assert configuration_digest(msgspec.structs.replace(Config(), databases=databases)) != DEFAULT


def test_what_follows_a_deletion_and_whose_documents_are_followed_count() -> None:
    """Different policies must be noticed, and so must instances of one cluster with different databases of users."""
    drops = msgspec.structs.replace(Config(), deletion=DeletionConfig(DeletionPolicy.DROP))
    elsewhere = msgspec.structs.replace(Config(), couchdb=msgspec.structs.replace(Config().couchdb, auth_db="others"))
    assert len({DEFAULT, configuration_digest(drops), configuration_digest(elsewhere)}) == 3


def test_the_rights_of_users_count() -> None:
    """Two instances with different grants for new users are reported."""
    members = msgspec.structs.replace(Config(), security=SecurityConfig(Grant.MEMBER))
    assert configuration_digest(members) != DEFAULT


def test_templates_count() -> None:
    """Two instances that put different documents into new databases are told apart, wherever their files are."""
    one, other = (Templates((Template("a", {"n": number}),)) for number in (1, 2))
    digests = {configuration_digest(Config(), each) for each in (NO_TEMPLATES, one, other)}
    assert len(digests) == 3
    elsewhere = msgspec.structs.replace(Config(), templates=TemplatesConfig("/elsewhere"))
    assert configuration_digest(elsewhere, one) in digests


def test_those_who_differ_are_named_in_their_order() -> None:
    """A lease without a digest says nothing, and a released lease does not count."""
    leases = [
        Lease("n3", "c", 1, digest="x"),
        Lease("n2", "b", 1, digest="y"),
        Lease("n1", "a", 1, digest=DEFAULT),
        Lease("n4", "d", 1),
        Lease("n5", "e", 1, digest="x", released=True),
    ]
    assert [lease.node for lease in differing(DEFAULT, leases)] == ["n2", "n3"]
