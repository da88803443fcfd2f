"""The refusals of a simulated cluster, and the HTTP answer that each becomes."""


class RefusalError(Exception):
    """A request that is answered with an error: `status`, and `error`, `reason` and perhaps `ref` of the body."""

    def __init__(self, status: int, error: str, reason: str | None, ref: int | None = None) -> None:
        super().__init__(f"{status} {error}: {reason}")
        self.status = status
        self.error = error
        self.reason = reason
        # The name of a crash in the server's log.
        self.ref = ref


def no_database() -> RefusalError:
    """The database is unknown to the node that was asked."""
    return RefusalError(404, "not_found", "Database does not exist.")


def no_document(reason: str = "missing") -> RefusalError:
    """The document never existed, or is `deleted`."""
    return RefusalError(404, "not_found", reason)


def no_shard() -> RefusalError:
    """The node has no such shard file."""
    return RefusalError(404, "not_found", "no_db_file")


def conflict() -> RefusalError:
    """An edit of a revision that is not the present one."""
    return RefusalError(409, "conflict", "Document update conflict.")


def bad_request(reason: str) -> RefusalError:
    """A request that cannot be understood."""
    return RefusalError(400, "bad_request", reason)


def forbidden(reason: str) -> RefusalError:
    """A request that this user may not make."""
    return RefusalError(403, "forbidden", reason)


def unauthorized(reason: str) -> RefusalError:
    """A request that needs other credentials."""
    return RefusalError(401, "unauthorized", reason)


def no_majority() -> RefusalError:
    """A security object that no majority has. The reachable copies keep it all the same."""
    return RefusalError(500, "error", "no_majority")


def read_failure() -> RefusalError:
    """No copy of the range of a local document can be reached."""
    return RefusalError(500, "error", "read_failure")


def no_progress() -> RefusalError:
    """No copy of some range can be reached."""
    return RefusalError(500, "nodedown", "progress not possible")


def node_down(name: str) -> RefusalError:
    """A node that belongs to the cluster and cannot be reached."""
    return RefusalError(412, "nodedown", f"{name} is down")


def no_node(name: str) -> RefusalError:
    """A node that never belonged to the cluster."""
    return RefusalError(404, "not_found", f"no such node: {name}")


def illegal_id(reason: str) -> RefusalError:
    """A text that cannot be the id of a document."""
    return RefusalError(400, "illegal_docid", reason)


def method_not_allowed(allowed: str) -> RefusalError:
    """A page that takes only the `allowed` methods, such as `GET,PUT`."""
    return RefusalError(405, "method_not_allowed", f"Only {allowed} allowed")


def crash(reason: str) -> RefusalError:
    """A request on which the server's process dies."""
    return RefusalError(500, "unknown_error", reason, 1_746_684_996)
