"""Pages of documents: one, many at once, lists of them, local ones."""

import sys
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from peruserd.simcluster.accounts import user_documents
from peruserd.simcluster.accounts.accounts import require_database_admin
from peruserd.simcluster.model import documents, errors, ids, validation_functions
from peruserd.simcluster.model.changes import with_identity
from peruserd.simcluster.model.revisions import chosen, generation_of, newest
from peruserd.simcluster.options import AUTH_DATABASE
from peruserd.simcluster.web.exchange import Exchange, reply
from peruserd.simcluster.web.leaf_pages import add_conflicts, every_leaf
from peruserd.simcluster.web.revs_diff import known_of, missing_revisions
from peruserd.simcluster.web.rows import row


async def read(exchange: Exchange) -> web.Response:
    """Give a document. A deleted document is refused as `deleted`, and one without any revision as `missing`."""
    exchange.require_member()
    document_id = exchange.rest(1)
    leaves = documents.open_document(
        exchange.model, exchange.node, exchange.database, document_id, exchange.number("r", 0)
    )
    if leaves is None:
        raise errors.no_document()
    if exchange.query.get("open_revs") == "all":
        return every_leaf(document_id, leaves)
    wanted = newest(leaves, exchange.query.get("rev"))
    if wanted is None:
        raise errors.no_document()
    if wanted.deleted and "rev" not in exchange.query:
        raise errors.no_document("deleted")
    _require_reader(exchange, document_id)
    body = with_identity(document_id, wanted.rev, wanted.body, deleted=wanted.deleted)
    conflicts = [leaf.rev for leaf in leaves[1:] if not leaf.deleted]
    if exchange.flag("conflicts") and conflicts:
        return reply({**body, "_conflicts": conflicts})
    return reply(body, headers={"ETag": f'"{wanted.rev}"'})


def _require_reader(exchange: Exchange, document_id: str) -> None:
    if exchange.database == AUTH_DATABASE:
        user_documents.require_reader(document_id, exchange.writer())


async def write(exchange: Exchange) -> web.Response:
    """Write a document: 201, 200 for a deletion, or 202 where only a minority of its copies has it yet."""
    exchange.require_member()
    document_id = exchange.rest(1)
    edit = _Edit.of(await exchange.object(), rev=named_rev(exchange), new=exchange.query.get("new_edits") != "false")
    made, agreed = _store(exchange, document_id, edit)
    done = 200 if edit.deleted else 201
    return reply(
        {"ok": True, "id": ids.shown(document_id), "rev": made},
        done if agreed else 202,
        {"ETag": f'"{made}"', "Location": address(exchange, document_id)},
    )


async def delete(exchange: Exchange) -> web.Response:
    """Delete a document: 200, or 202 where only a minority of its copies knows yet."""
    exchange.require_member()
    document_id = exchange.rest(1)
    leaves = documents.read(exchange.model, exchange.node, exchange.database, document_id)
    if leaves is None or leaves[0].deleted:
        raise errors.no_document("deleted" if leaves else "missing")
    _require_reader(exchange, document_id)
    made, agreed = _store(exchange, document_id, _Edit(named_rev(exchange), (), {}, deleted=True, new=True))
    shown = ids.shown(document_id)
    return reply({"ok": True, "id": shown, "rev": made}, 200 if agreed else 202, {"ETag": f'"{made}"'})


async def create(exchange: Exchange) -> web.Response:
    """Write a document under its own `_id`, or a fresh one."""
    exchange.require_member()
    sent = await exchange.object()
    document_id = str(sent.get("_id") or exchange.model.fresh_uuid())
    made, agreed = _store(exchange, document_id, _Edit.of(sent, rev=None, new=True))
    return reply(
        {"ok": True, "id": document_id, "rev": made},
        201 if agreed else 202,
        {"Location": address(exchange, document_id)},
    )


async def bulk(exchange: Exchange) -> web.Response:
    """Write many documents, each on its own. Some can be refused while others are written.

    With revisions of the writer's choice (`new_edits=false`) the answer has only the refused documents.
    """
    exchange.require_member()
    sent = await exchange.object()
    new = sent.get("new_edits") is not False
    edits = _edits(sent.get("docs"), exchange, new=new)
    results: list[dict[str, Any]] = []
    all_agreed = True
    for document_id, edit in edits:
        shown = ids.shown(document_id)
        try:
            made, agreed = _store(exchange, document_id, edit)
        except errors.RefusalError as error:
            if error.ref is not None or error.status == 404:
                raise
            refused: dict[str, Any] = {"id": shown} if new else {"id": shown, "rev": edit.rev}
            results.append({**refused, "error": error.error, "reason": error.reason})
        else:
            all_agreed &= agreed
            if new:
                results.append({"ok": True, "id": shown, "rev": made})
    return reply(results, 201 if all_agreed else 202)


async def all_documents(exchange: Exchange) -> web.Response:
    """List documents by id: all, those between keys, or those asked for by name."""
    exchange.require_lister()
    copies = exchange.model.covering(exchange.node, exchange.database)
    total = sum(copy.doc_count for copy in copies)
    keys = (await exchange.object()).get("keys") if exchange.method == "POST" else exchange.json_list("keys")
    if keys is not None:
        rows = [_row_for_key(exchange, str(key)) for key in keys]
        return reply({"total_rows": total, "offset": None, "rows": rows})
    return _between(exchange, total)


def _between(exchange: Exchange, total: int) -> web.Response:
    first, last = exchange.key("start_key", "startkey"), exchange.key("end_key", "endkey")
    exact = exchange.key("key")
    if exact is not None:
        first = last = exact
    backwards = exchange.flag("descending")
    if backwards:
        first, last = last, first
    copies = exchange.model.covering(exchange.node, exchange.database)
    before, found = exchange.services.sorted_documents.between(copies, first, last)
    if backwards:
        before = total - before - len(found)
        found.reverse()
    skip = exchange.number("skip", 0)
    found = found[skip : skip + exchange.number("limit", len(found))]
    docs = exchange.flag("include_docs")
    rows = [row(document_id, leaves, include_docs=docs) for document_id, leaves in found]
    if docs and exchange.flag("conflicts"):
        add_conflicts(rows, found)
    return reply({"total_rows": total, "offset": before + skip, "rows": rows})


class _Edit(msgspec.Struct, frozen=True):
    """The edit in a sent document: its revision, the ancestors of this revision, and its content.

    With `new` the document is an edit of this revision. Without, it is this revision itself.
    """

    rev: str | None
    ancestors: tuple[str, ...]
    body: dict[str, Any]
    deleted: bool
    new: bool

    @classmethod
    def of(cls, sent: dict[str, Any], *, rev: str | None, new: bool) -> "_Edit":
        """Read a sent document. `rev` is a revision in the query or a header. Refuses impossible revisions."""
        path = _path(sent)
        if rev is not None:
            path = (rev,)
        for each in path:
            try:
                generation_of(each)
            except ValueError as error:
                raise errors.bad_request("Invalid rev format") from error
        if not path and not new:
            raise errors.bad_request("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
        deleted = sent.get("_deleted") is True
        return cls(path[0] if path else None, path[1:], content(sent), deleted=deleted, new=new)


def _path(sent: dict[str, Any]) -> tuple[str, ...]:
    """Return the revision in a document, and the revisions before it."""
    match sent:
        case {"_revisions": {"start": int(start), "ids": [*hashes]}}:
            return tuple(f"{start - turn}-{each}" for turn, each in enumerate(hashes))
        case {"_rev": rev}:
            return (str(rev),)
    return ()


def _edits(sent: object, exchange: Exchange, *, new: bool) -> list[tuple[str, _Edit]]:
    """Read all documents of a request. Where one cannot be read, none is written."""
    if not isinstance(sent, list):
        raise errors.bad_request("POST body must include `docs` parameter.")
    if not all(isinstance(each, dict) for each in sent):
        raise errors.bad_request("Document must be a JSON object")
    return [(str(each.get("_id") or exchange.model.fresh_uuid()), _Edit.of(each, rev=None, new=new)) for each in sent]


def _store(exchange: Exchange, document_id: str, edit: _Edit) -> tuple[str, bool]:
    model, node, database = exchange.model, exchange.node, exchange.database
    ids.check(document_id)
    body, deleted = edit.body, edit.deleted
    validate: documents.Validation | None = None
    if document_id.startswith("_design/"):
        require_database_admin(exchange.user, documents.read_security(model, node, database))
        if validation_functions.has_function(body):
            model.guarded.add(database)
    elif database == AUTH_DATABASE:
        writer = exchange.writer()
        user_documents.require_writer(document_id, writer)
        body = user_documents.with_derived_key(body, model.fresh_uuid())
        validate = partial(_validate, document_id, None if deleted else body, writer)
    elif database in model.guarded:
        validate = partial(_require_allowed, exchange)
    if edit.new or edit.rev is None:
        known = documents.read(model, node, database, document_id) if edit.rev is not None else None
        if any(leaf.deleted and leaf.rev == edit.rev for leaf in known or ()):
            # A write without a revision continues the deletion of a document (measured).
            raise errors.conflict()
        return documents.write(model, node, database, document_id, edit.rev, body, deleted=deleted, validate=validate)
    revision = chosen((edit.rev, *edit.ancestors), body, deleted=deleted)
    return edit.rev, documents.replicate(model, node, database, document_id, revision, validate)


def _validate(
    document_id: str, body: dict[str, Any] | None, writer: user_documents.Writer, before: dict[str, Any] | None
) -> None:
    user_documents.validate(document_id, body, before, writer)


def _require_allowed(exchange: Exchange, _before: dict[str, Any] | None) -> None:
    copies = exchange.model.covering(exchange.node, exchange.database)
    designs = [copy.docs[each][1][0] for copy in copies for each in copy.docs if each.startswith("_design/")]
    validation_functions.require_allowed(each.body for each in designs if not each.deleted)


def _row_for_key(exchange: Exchange, key: str) -> dict[str, Any]:
    leaves = documents.open_document(exchange.model, exchange.node, exchange.database, key)
    if leaves is None:
        return {"key": key, "error": "not_found"}
    return row(key, leaves, include_docs=exchange.flag("include_docs"))


def content(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a sent document, without the fields that CouchDB keeps apart."""
    apart = ("_id", "_rev", "_deleted", "_revisions")
    return {key: _as_kept(value) for key, value in sent.items() if key not in apart}


def _as_kept(value: Any) -> Any:
    """Return a value as a later read gives it. A number too near to 0 is 0.0 then, and so is -0.0 (measured)."""
    match value:
        case float() if abs(value) < sys.float_info.min:
            return 0.0
        case dict():
            return {key: _as_kept(each) for key, each in value.items()}
        case list():
            return [_as_kept(each) for each in value]
    return value


def named_rev(exchange: Exchange) -> str | None:
    """Return the revision outside the document: in the query, or in a header."""
    rev = exchange.query.get("rev") or exchange.request.headers.get("If-Match")
    return rev.strip('"') if rev else None


def address(exchange: Exchange, document_id: str) -> str:
    """Return where a document is."""
    return exchange.location(quote(exchange.database, safe=""), ids.to_path(document_id, safe=":"))


async def revisions_missing(exchange: Exchange) -> web.Response:
    """Say of each document which of some revisions nobody has ever heard of."""
    at, database = exchange.node, exchange.database
    return await missing_revisions(
        exchange, lambda document_id: known_of(documents.read(exchange.model, at, database, document_id))
    )
