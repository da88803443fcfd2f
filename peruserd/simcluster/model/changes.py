"""Rows of a feed: those of one copy with its private integers, or of a whole database with opaque sequences. Pure."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Container
from struct import Struct
from struct import error as StructError  # noqa: N812 - the module calls it merely `error`
from typing import Any

import msgspec

from peruserd.simcluster.model import errors, ids
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import Row, ShardCopy
from peruserd.simcluster.model.nodes import Node

_ENTRY = Struct(">8sQ")


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of a feed, as it is sent."""

    seq: int | str
    id: str
    changes: tuple[dict[str, str], ...]
    deleted: bool = False
    doc: dict[str, Any] | None = None


class Page(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows, and the sequence after them. `pending` is known for whole databases only."""

    results: list[Change]
    last_seq: int | str
    pending: int | None = None


def shard_since(copy: ShardCopy, since: str) -> int:
    """Read the `since` of a feed of one copy. Refuses other texts than numbers as CouchDB does."""
    if since == "now":
        return copy.update_seq
    try:
        return int(since)
    except ValueError as error:
        raise errors.RefusalError(500, "unknown_error", "badarg") from error


def shard_page(copy: ShardCopy, since: int, limit: int, *, include_docs: bool, all_leaves: bool = False) -> Page:
    """Return the next changes of one copy. Beyond the end there are none, and the last sequence is `since` itself."""
    rows = copy.rows(since, limit)
    results = [_change(row[0], row, include_docs=include_docs, all_leaves=all_leaves) for row in rows]
    return Page(results, rows[-1][0] if rows else since)


def picked(page: Page, limit: int, *, document_ids: Container[str] | None, descending: bool) -> Page:
    """Return the rows of some documents in a page, or of all documents (None); the newest first if `descending`."""
    rows = [each for each in page.results if document_ids is None or each.id in document_ids]
    if not descending:
        return msgspec.structs.replace(page, results=rows[:limit])
    rows = rows[::-1][:limit]
    return msgspec.structs.replace(page, results=rows, last_seq=rows[-1].seq if rows else page.last_seq)


class DatabaseFeed:
    """A position in the feed of a whole database: one copy for each range, and a sequence in it."""

    def __init__(self, model: ClusterModel, at: Node, name: str, since: str) -> None:
        """Begin at `since`, which is 0, now, or a sequence from an earlier answer. Refuses other texts.

        The feed goes on with the copy in the sequence, or with the copies that it was split into. Where these cannot be
        reached, another copy of the range is read from its start. So a change can be listed twice, and none is left
        out.
        """
        self._model = model
        self._at = at
        self._name = name
        self.copies: list[ShardCopy] = []
        self._seqs: list[int] = []
        self._parts: list[bytes] = []
        self._follow(since)

    @property
    def position(self) -> str:
        """The sequence that stands for this place."""
        return _encode(self._seqs, self._parts)

    def page(self, limit: int, *, include_docs: bool, all_leaves: bool = False) -> Page:
        """Return the next changes and move past them. Refuses where the database is gone."""
        if not self._is_current():
            self._follow(self.position)
        results: list[Change] = []
        for index, copy in enumerate(self.copies):
            if len(results) >= limit:
                break
            key = bytes.fromhex(copy.uuid[:16])
            for row in copy.rows(self._seqs[index], limit - len(results)):
                self._seqs[index] = row[0]
                self._parts[index] = _ENTRY.pack(key, row[0])
                results.append(_change(self.position, row, include_docs=include_docs, all_leaves=all_leaves))
        pending = sum(copy.pending(seq) for copy, seq in zip(self.copies, self._seqs, strict=True))
        return Page(results, self.position, pending)

    def _is_current(self) -> bool:
        """Say whether all copies of this position exist and can be reached."""
        names = {node.name for node in self._model.reachable(self._at)}
        return not any(copy.gone or copy.node not in names for copy in self.copies)

    def _follow(self, since: str) -> None:
        self._model.map_of(self._at, self._name)
        known = {} if since in ("0", "now", "") else _decode(since)
        self.copies = self._model.covering(self._at, self._name, lambda copy: _seen(copy, known) is not None)
        if since == "now":
            self._seqs = [copy.update_seq for copy in self.copies]
        else:
            self._seqs = [_seen(copy, known) or 0 for copy in self.copies]
        self._parts = [
            _ENTRY.pack(bytes.fromhex(copy.uuid[:16]), seq) for copy, seq in zip(self.copies, self._seqs, strict=True)
        ]


def update_sequence(copies: list[ShardCopy]) -> str:
    """Return the opaque sequence of the newest change of these copies."""
    parts = [_ENTRY.pack(bytes.fromhex(copy.uuid[:16]), copy.update_seq) for copy in copies]
    return _encode([copy.update_seq for copy in copies], parts)


def with_identity(document_id: str, rev: str, body: dict[str, Any], *, deleted: bool = False) -> dict[str, Any]:
    """Return a document as it is read: its id and revision first."""
    document = {"_id": ids.shown(document_id), "_rev": rev, **body}
    if deleted:
        document["_deleted"] = True
    return document


def _change(seq: int | str, row: Row, *, include_docs: bool, all_leaves: bool) -> Change:
    _, document_id, leaves = row
    winner = leaves[0]
    shown = leaves if all_leaves else leaves[:1]
    document = None
    if include_docs:
        document = with_identity(document_id, winner.rev, winner.body, deleted=winner.deleted)
    return Change(seq, ids.shown(document_id), tuple({"rev": leaf.rev} for leaf in shown), winner.deleted, document)


def _seen(copy: ShardCopy, known: dict[str, int]) -> int | None:
    if not known:
        return None
    return next((known[uuid[:16]] for uuid in (copy.uuid, *copy.lineage) if uuid[:16] in known), None)


def _encode(seqs: list[int], parts: list[bytes]) -> str:
    # Without padding, so that it needs no quoting in a query.
    return f"{sum(seqs)}-{urlsafe_b64encode(b''.join(parts)).decode().rstrip('=')}"


def _decode(since: str) -> dict[str, int]:
    total, _, packed = since.partition("-")
    try:
        entries = list(_ENTRY.iter_unpack(urlsafe_b64decode(packed + "=" * (-len(packed) % 4))))
    except (NotBase64, StructError, ValueError) as error:
        raise _malformed() from error
    if not total.isdigit() or not entries:
        raise _malformed()
    return {key.hex(): seq for key, seq in entries}


def _malformed() -> errors.RefusalError:
    return errors.bad_request("Malformed sequence supplied in 'since' parameter.")
