"""The message that starts a listener, as tests send it."""

from typing import Any

import msgspec

from peruserd.core.config import CouchDBConfig, DatabasesConfig, DeletionConfig, LogConfig
from peruserd.core.messages import ListenerStart
from peruserd.core.views import Assignment


def listener_start(assignment: Assignment, **changes: Any) -> ListenerStart:
    """Return the message for an assignment, with default settings and for node `n1` unless told otherwise."""
    start = ListenerStart(
        copy=assignment.copy,
        ownership=assignment.ownership,
        coming=assignment.coming,
        instance="n1",
        couchdb=CouchDBConfig(),
        token=None,
        databases=DatabasesConfig(),
        deletion=DeletionConfig(),
        cluster_database="peruserd",
        log=LogConfig(),
        state_file="",
        share=4,
        most_in_flight=8,
        begin_near=None,
        recall_seconds=30.0,
    )
    return msgspec.structs.replace(start, **changes)
