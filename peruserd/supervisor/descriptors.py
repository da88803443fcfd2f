"""The limit of file descriptors: raised at the start, and watched for being too low.

The soft limit is 1,024 on most machines, because some programs cannot use more. This one can. The processes of an
instance inherit the limit from the supervisor.
"""

import resource

import structlog

from peruserd.core.processes.descriptors import needed

log = structlog.get_logger(__name__)


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one. A failure is only logged, because the limit may suffice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("limit of file descriptors cannot be raised", limit=soft, to=hard, error=str(error))
    else:
        log.debug("limit of file descriptors raised", before=soft, limit=hard)


class DescriptorWatch:
    """Says so if the limit does not suffice for the listeners of a plan."""

    def __init__(self) -> None:
        self._said = 0

    def check(self, listeners: int, share: int) -> None:
        """Log that the limit is too low for so many listeners, each with `share` users at once. Say it once a need."""
        limit, need = resource.getrlimit(resource.RLIMIT_NOFILE)[0], needed(listeners, share)
        if limit >= need or need == self._said:
            return
        self._said = need
        log.warning(
            "limit of file descriptors is too low",
            limit=limit,
            needed=need,
            listeners=listeners,
            advice="raise LimitNOFILE of the unit, or `ulimit -Hn`; or lower provisioning.max_in_flight",
        )
