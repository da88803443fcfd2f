"""The page `_revs_diff` of a copy, a database or a node's shard maps: missing revisions of a given list."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from peruserd.simcluster.model import errors
from peruserd.simcluster.model.revisions import Leaves
from peruserd.simcluster.web.exchange import Exchange, reply

_REVISION: Final = re.compile(r"(\d+)-.+")


class Known(msgspec.Struct, frozen=True):
    """The revisions of one document that are there, and its leaves with their numbers."""

    revisions: frozenset[str] = frozenset()
    leaves: dict[str, int] = {}


def known_of(leaves: Leaves | None) -> Known:
    """Return the known revisions of a document with these leaves."""
    return Known(
        frozenset(rev for leaf in leaves or () for rev in (leaf.rev, *leaf.ancestors)),
        {leaf.rev: leaf.generation for leaf in leaves or ()},
    )


async def missing_revisions(exchange: Exchange, known: Callable[[str], Known]) -> web.Response:
    """Answer with the missing revisions of each document, and with its older leaves, their possible ancestors."""
    asked = {document_id: _revisions(revs) for document_id, revs in (await exchange.object()).items()}
    differences = {document_id: _difference(known(document_id), revs) for document_id, revs in asked.items()}
    return reply({document_id: each for document_id, each in differences.items() if each})


def _revisions(asked: object) -> dict[str, int]:
    """Return the requested revisions with their numbers. Refuses values that are no revisions."""
    if not isinstance(asked, list):
        raise errors.bad_request("Invalid list of revisions")
    parsed = {each: _REVISION.fullmatch(each) if isinstance(each, str) else None for each in asked}
    if not all(parsed.values()):
        raise errors.bad_request("Invalid rev format")
    return {rev: int(match[1]) for rev, match in parsed.items() if match}


def _difference(known: Known, asked: dict[str, int]) -> dict[str, Any]:
    missing = [rev for rev in asked if rev not in known.revisions]
    if not missing:
        return {}
    found = {"missing": missing}
    highest = max(asked[rev] for rev in missing)
    if ancestors := [rev for rev, number in known.leaves.items() if number < highest]:
        found["possible_ancestors"] = ancestors
    return found
