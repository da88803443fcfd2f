"""The `_changes` of one shard copy, over `/_node/…`, and of a whole database."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from aiohttp import web

from peruserd.simcluster.change_watch import wait_for_change
from peruserd.simcluster.model import errors
from peruserd.simcluster.model.changes import DatabaseFeed, Page, picked, shard_page, shard_since
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.web.exchange import Exchange, encode, etag, raw_reply, reply, stream_reply

# CouchDB's default for `changes_timeout`, which is its maximum too.
_MAX_WAIT_SECONDS: Final = 60.0
_NO_LIMIT: Final = 1 << 62
_FEEDS: Final = ("normal", "longpoll", "continuous", "eventsource")


class _Wanted(msgspec.Struct, frozen=True):
    """The parameters of a request for a feed."""

    feed: str
    since: str
    limit: int
    include_docs: bool
    wait_seconds: float
    heartbeat_seconds: float | None
    descending: bool
    all_leaves: bool
    document_ids: frozenset[str] | None

    @classmethod
    async def of(cls, exchange: Exchange) -> "_Wanted":
        feed = exchange.query.get("feed", "normal")
        if feed not in _FEEDS:
            raise errors.bad_request("Supported `feed` types: normal, continuous, live, longpoll, eventsource")
        heartbeat = exchange.query.get("heartbeat")
        heartbeat_seconds = None
        if heartbeat is not None:
            heartbeat_seconds = 60.0 if heartbeat == "true" else exchange.number("heartbeat", 60_000) / 1000
        return cls(
            feed=feed,
            since=exchange.key_or_text("since", "0"),
            limit=max(exchange.number("limit", _NO_LIMIT), 1),
            include_docs=exchange.flag("include_docs"),
            wait_seconds=min(exchange.number("timeout", 60_000) / 1000, _MAX_WAIT_SECONDS),
            heartbeat_seconds=heartbeat_seconds,
            descending=exchange.flag("descending"),
            all_leaves=exchange.query.get("style") == "all_docs",
            document_ids=await _document_ids(exchange),
        )

    @property
    def form(self) -> dict[str, bool]:
        """Return the options for each row."""
        return {"include_docs": self.include_docs, "all_leaves": self.all_leaves}

    @property
    def is_picked(self) -> bool:
        """Say whether the request asks for other rows than simply the next ones."""
        return self.descending or self.document_ids is not None

    def pick(self, page: Page) -> Page:
        """Return the rows that the request asks for, of a page with all rows."""
        return picked(page, self.limit, document_ids=self.document_ids, descending=self.descending)


async def _document_ids(exchange: Exchange) -> frozenset[str] | None:
    """Return the ids of the documents that a request asks for. None where it asks for all."""
    if exchange.query.get("filter") != "_doc_ids":
        return None
    body = await exchange.json()
    wanted = body.get("doc_ids") if isinstance(body, dict) else None
    if not isinstance(wanted, list):
        raise errors.bad_request("`doc_ids` filter parameter is not a list.")
    return frozenset(each for each in wanted if isinstance(each, str))


async def shard_changes(exchange: Exchange, node: Node, copy: ShardCopy) -> web.StreamResponse:
    """Answer for a node's copy. The node makes the whole answer first, and sends nothing before it is ready."""
    wanted = await _Wanted.of(exchange)
    since = shard_since(copy, wanted.since)
    if wanted.is_picked and wanted.feed == "normal":
        return reply(wanted.pick(shard_page(copy, since, _NO_LIMIT, **wanted.form)))
    if wanted.feed == "longpoll":
        page = await _await_shard_page(exchange, node, copy, since, wanted)
        return reply(page)
    if wanted.feed == "continuous":
        return await _buffered(exchange, node, copy, since, wanted)
    page = shard_page(copy, since, wanted.limit, **wanted.form)
    return reply(page, headers=etag(copy.uuid, copy.update_seq))


async def _await_shard_page(exchange: Exchange, node: Node, copy: ShardCopy, since: int, wanted: _Wanted) -> Page:
    """Return the next changes as soon as there are any, or an empty page when the copy goes or the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wanted.wait_seconds
    while True:
        page = shard_page(copy, since, wanted.limit, **wanted.form)
        left = deadline - loop.time()
        if page.results or copy.gone or (left <= 0 and wanted.heartbeat_seconds is None):
            return page
        await wait_for_change([copy], None if wanted.heartbeat_seconds is not None else left)
        if node not in exchange.model.reachable(exchange.node):
            raise errors.node_down(node.name)


async def _buffered(exchange: Exchange, node: Node, copy: ShardCopy, since: int, wanted: _Wanted) -> web.Response:
    lines = []
    limit = wanted.limit
    while limit > 0:
        page = await _await_shard_page(exchange, node, copy, since, msgspec.structs.replace(wanted, limit=limit))
        if not page.results:
            break
        lines += [encode(row) for row in page.results]
        limit -= len(page.results)
        since = shard_since(copy, str(page.last_seq))
    lines.append(encode({"last_seq": since}))
    return raw_reply(b"\n".join(lines) + b"\n\n")


async def database_changes(exchange: Exchange) -> web.StreamResponse:
    """Answer for a whole database: normal, or long poll and continuous, with heartbeats between the changes."""
    wanted = await _Wanted.of(exchange)
    feed = DatabaseFeed(exchange.model, exchange.node, exchange.database, wanted.since)
    if wanted.is_picked and wanted.feed == "normal":
        return reply(wanted.pick(feed.page(_NO_LIMIT, **wanted.form)))
    if wanted.feed == "longpoll":
        return await _long_poll(exchange, feed, wanted)
    if wanted.feed == "continuous":
        return await _continuous(exchange, feed, wanted)
    page = feed.page(wanted.limit, **wanted.form)
    return reply(page, headers=etag(page.last_seq, page.pending))


async def _long_poll(exchange: Exchange, feed: DatabaseFeed, wanted: _Wanted) -> web.StreamResponse:
    answer = stream_reply()
    # Headers go out at once, so that a client sees the heartbeats: blank lines before the object.
    await answer.prepare(exchange.request)
    page = await anext(_pages(answer, feed, wanted), None)
    await answer.write(encode(page or Page([], feed.position, 0)) + b"\n")
    await answer.write_eof()
    return answer


async def _continuous(exchange: Exchange, feed: DatabaseFeed, wanted: _Wanted) -> web.StreamResponse:
    answer = stream_reply()
    await answer.prepare(exchange.request)
    pending: int | None = 0
    async for page in _pages(answer, feed, wanted):
        await answer.write(b"\n".join(map(encode, page.results)) + b"\n")
        pending = page.pending
    await answer.write(encode({"last_seq": feed.position, "pending": pending}) + b"\n")
    await answer.write_eof()
    return answer


async def _pages(answer: web.StreamResponse, feed: DatabaseFeed, wanted: _Wanted) -> AsyncIterator[Page]:
    """Yield changes as they come, and send heartbeats meanwhile. End with the wait or with the database.

    Without heartbeats the wait ends when no change came for the time-out. With heartbeats it never ends.
    """
    loop = asyncio.get_running_loop()
    pause = wanted.heartbeat_seconds if wanted.heartbeat_seconds is not None else wanted.wait_seconds
    quiet_until = loop.time() + pause
    left = wanted.limit
    while left > 0:
        try:
            page = feed.page(left, **wanted.form)
        except errors.RefusalError:
            return
        if page.results:
            left -= len(page.results)
            quiet_until = loop.time() + pause
            yield page
            continue
        if loop.time() >= quiet_until:
            if wanted.heartbeat_seconds is None:
                return
            await answer.write(b"\n")
            quiet_until = loop.time() + pause
        await wait_for_change(feed.copies, max(quiet_until - loop.time(), 0))
