"""The start message of a listener, for tests."""

from typing import Any

import msgspec

from peruserd.core.cluster.views import Assignment
from peruserd.core.configuration.config import CouchDBConfig, DatabasesConfig, DeletionConfig, LogConfig
from peruserd.core.processes.messages import ListenerStart


def listener_start(assignment: Assignment, **changes: Any) -> ListenerStart:
    """Return the message for an assignment, by default with default settings and for node `n1`."""
    start = ListenerStart(
        copy=assignment.copy,
        ownership=assignment.ownership,
        upcoming=assignment.upcoming,
        instance="n1",
        couchdb=CouchDBConfig(),
        token=None,
        databases=DatabasesConfig(),
        deletion=DeletionConfig(),
        cluster_database="peruserd",
        log=LogConfig(),
        state_file="",
        share=4,
        max_in_flight=8,
        resume_near=None,
        recall_seconds=30.0,
    )
    return msgspec.structs.replace(start, **changes)
