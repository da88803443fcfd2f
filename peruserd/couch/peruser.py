"""Reads the settings of couch_peruser on the nodes of a cluster."""

from collections.abc import Iterable

import msgspec

from peruserd.core.migration.settings import SETTINGS, Peruser, peruser_of
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError


class Settings(msgspec.Struct, frozen=True):
    """The settings of couch_peruser by node, and for each other node the reason why they could not be read."""

    found: dict[str, Peruser]
    hidden: dict[str, str]


def read_settings(client: Client, nodes: Iterable[str]) -> Settings:
    """Ask each of these nodes; raises CouchError only if the server does not let this instance in."""
    found: dict[str, Peruser] = {}
    hidden: dict[str, str] = {}
    for node in sorted(nodes):
        try:
            found[node] = peruser_of({key: client.setting(node, *key) for key in SETTINGS})
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            hidden[node] = str(error)
    return Settings(found, hidden)
