"""Pages under `/_reshard`: new jobs that split ranges, and their progress."""

import msgspec
from aiohttp import web

from peruserd.simcluster.model import errors
from peruserd.simcluster.web.exchange import Exchange, reply


class _SplitRequest(msgspec.Struct):
    """The body of `POST /_reshard/jobs`."""

    type: str = ""
    db: str | None = None
    range: str | None = None
    node: str | None = None
    shard: str | None = None


async def start(exchange: Exchange) -> web.Response:
    """Start to split a range, or all ranges of a database."""
    exchange.require_admin()
    try:
        wanted = msgspec.convert(await exchange.json(), _SplitRequest)
    except msgspec.ValidationError as error:
        raise errors.bad_request(str(error)) from error
    if wanted.type != "split":
        raise errors.bad_request("Job type must be `split`")
    database, covered = wanted.db, wanted.range
    if wanted.shard:
        _, covered, file_name = wanted.shard.split("/", 2)
        database = file_name.rpartition(".")[0]
    if database is None:
        raise errors.bad_request("Either `db` or `shard` must be given")
    jobs = exchange.services.splitter.start(exchange.node, database, covered, wanted.node)
    exchange.services.on_split()
    return reply([{"ok": True, "id": job.id, "node": job.node, "shard": job.source} for job in jobs], 201)


async def list_jobs(exchange: Exchange) -> web.Response:
    """List split jobs, or one."""
    exchange.require_admin()
    jobs = exchange.services.splitter.jobs
    if len(exchange.segments) > 2:
        job = jobs.get(exchange.rest(2))
        if job is None:
            raise errors.no_document()
        return reply(job.as_json())
    listed = sorted(jobs.values(), key=lambda job: (job.started, job.node))
    return reply({"total_rows": len(listed), "offset": 0, "jobs": [job.as_json() for job in listed]})


async def summary(exchange: Exchange) -> web.Response:
    """Count split jobs by their state."""
    exchange.require_admin()
    jobs = exchange.services.splitter.jobs.values()
    completed = sum(job.finished is not None for job in jobs)
    return reply(
        {
            "state": "running",
            "state_reason": None,
            "completed": completed,
            "failed": 0,
            "running": len(jobs) - completed,
            "stopped": 0,
            "total": len(jobs),
        }
    )
