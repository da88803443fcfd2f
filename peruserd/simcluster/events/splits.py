"""The splits of ranges. Each node splits its own copy at its own time. Pure.

A job has two steps. The first step makes the two halves and writes them into the shard map. The old copy can still be
read, but gets no write any more. The second step removes it. The driver of the model runs each step. A job of a node
that is down waits until the node is back.
"""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from peruserd.core.ownership.ranges import Range
from peruserd.simcluster.model import errors, ids
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.revisions import join
from peruserd.simcluster.model.shard_maps import MapDocument, parse_range

_STAGES: Final = (
    "initial_copy",
    "topoff1",
    "build_indices",
    "topoff2",
    "copy_local_docs",
    "update_shardmap",
    "wait_source_close",
    "topoff3",
    "source_delete",
)


class Job(msgspec.Struct):
    """One node's task to split one of its copies."""

    id: str
    node: str
    database: str
    covered: Range
    source: str
    targets: tuple[str, str]
    started: float
    split: bool = False
    finished: float | None = None

    @property
    def stage(self) -> str:
        """The stage of the job, as `split_state` calls it."""
        if self.finished is not None:
            return "completed"
        return "wait_source_close" if self.split else _STAGES[0]

    def as_json(self) -> dict[str, Any]:
        """Return the job as `_reshard/jobs` lists it."""
        started = _when(self.started)
        state = "running" if self.finished is None else "completed"
        history = [{"timestamp": started, "type": "new", "detail": None}]
        history += [{"timestamp": started, "type": "running", "detail": stage} for stage in self._stages()]
        if self.finished is not None:
            history.append({"timestamp": _when(self.finished), "type": "completed", "detail": None})
        return {
            "id": self.id,
            "type": "split",
            "source": self.source,
            "target": list(self.targets),
            "job_state": state,
            "split_state": self.stage,
            "state_info": {},
            "node": self.node,
            "start_time": started,
            "update_time": _when(self.finished or self.started),
            "history": history,
        }

    def _stages(self) -> tuple[str, ...]:
        return _STAGES if self.finished is not None else _STAGES[: _STAGES.index(self.stage) + 1]


class Splitter:
    """The jobs of a cluster."""

    def __init__(self, model: ClusterModel) -> None:
        self.jobs: dict[str, Job] = {}
        self._model = model

    def start(self, at: Node, database: str, covered: str | None, node: str | None = None) -> list[Job]:
        """Make a job for each copy of one range or of all, on one node or on all. Refuses where there is no copy."""
        document = self._model.map_of(at, database)
        wanted = _parse(covered) if covered else None
        made = []
        for each, hosts in document.hosts.items():
            if wanted in (None, each):
                # The highest node name first, as CouchDB lists them.
                made += [self._job(document, each, host) for host in reversed(hosts) if node in (None, host)]
        if not made:
            raise errors.RefusalError(404, "not_found", "No shards in that database match the request.")
        self.jobs.update((job.id, job) for job in made)
        return made

    def waiting(self) -> list[Job]:
        """Return the jobs that are not over, oldest first."""
        return [job for job in self.jobs.values() if job.finished is None]

    def run(self, job: Job) -> bool:
        """Run the job's next step. False where its node is down, or its copy is gone."""
        node = self._model.by_name[job.node]
        if not node.alive or job.finished is not None:
            return False
        copy = node.shards.get(job.source)
        document = node.database(job.database)
        if copy is not None and document is not None and not job.split:
            self._split(job, node, copy, document)
            return True
        job.finished = self._model.clock()
        if copy is not None and job.split:
            node.remove(copy)
        return job.split

    def _split(self, job: Job, node: Node, copy: ShardCopy, document: MapDocument) -> None:
        ranges = _halves(job.covered)
        targets = [(path, half, self._model.fresh_uuid()) for path, half in zip(job.targets, ranges, strict=True)]
        node.supersede(job.database, copy, copy.split_into(targets))
        self._model.publish(node, document.split(job.covered, ranges, job.node))
        job.split = True

    def _job(self, document: MapDocument, covered: Range, node: str) -> Job:
        low, high = _halves(covered)
        return Job(
            id=f"001-{self._model.random.getrandbits(256):064x}",
            node=node,
            database=document.name,
            covered=covered,
            source=document.path(covered),
            targets=(document.path(low), document.path(high)),
            started=self._model.clock(),
        )


def rebuild(model: ClusterModel, node: Node, database: str, covered: str) -> None:
    """Make a node's copy again from scratch: with another uuid, other sequences from 1 on, and no local documents.

    Refuses where the node has no such copy.
    """
    model.map_of(node, database)
    wanted = _parse(covered)
    old = next((copy for copy in node.holdings.get(database, ()) if copy.range == wanted), None)
    if old is None:
        raise errors.no_shard()
    new = model.make_copy(node.name, old.path, old.range)
    new.security = old.security
    known = {document_id: leaves for document_id, (_, leaves) in old.docs.items()}
    for copy in model.copies_of(node, database):
        for document_id, (_, leaves) in copy.docs.items():
            if copy is not old and ids.place(document_id) in new.range:
                known[document_id] = join(known.get(document_id, leaves), leaves)
    node.remove(old)
    node.supersede(database, old, [new])
    shuffled = list(known)
    model.random.shuffle(shuffled)
    for document_id in shuffled:
        new.merge(document_id, known[document_id])


def _parse(covered: str) -> Range:
    try:
        return parse_range(covered)
    except ValueError as error:
        raise errors.bad_request(str(error)) from error


def _halves(covered: Range) -> tuple[Range, Range]:
    middle = covered.begin + (covered.end - covered.begin) // 2
    return Range(covered.begin, middle), Range(middle + 1, covered.end)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
