"""Hands each order of an operator to the part of the daemon that carries it out."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import structlog

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.control import MAX_USERS, Answer, Done, LookAt, Mistaken, Order, Refused, Reload, Reloaded
from peruserd.daemon.reload import Reloader
from peruserd.supervisor.loop import Supervisor

# The command waits a little longer for an answer.
_RELOAD_SECONDS: Final = 100.0

log = structlog.get_logger(__name__)


class Orders:
    """Carries out an order with the function for its type."""

    def __init__(self, by_type: Mapping[type, Callable[[Any, int], Iterator[Answer]]]) -> None:
        self._by_type = by_type

    def carry_out(self, order: Order, uid: int) -> Iterator[Answer]:
        """Carry out an order of the user with this id; the last answer says how it ended."""
        return self._by_type[type(order)](order, uid)


class Reloads:
    """Reloads the configuration at an operator's word."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    def carry_out(self, _order: Reload, uid: int) -> Iterator[Answer]:
        """Wait for the end of a reload that begins now, and say what has changed."""
        log.info("reload asked for", by=uid)
        try:
            result = self._reloader.request().result(_RELOAD_SECONDS)
        except TimeoutError:
            yield Refused(f"the files are not read after {_RELOAD_SECONDS:.0f} seconds; the log says how it ends")
            return
        changes = result.changes
        if result.mistakes:
            yield Mistaken(result.mistakes)
        elif result.trouble:
            yield Refused(result.trouble)
        else:
            yield Reloaded(changes.at_once, changes.listeners, changes.kept)
            yield Done()


class OrderedLooks:
    """Asks the listeners for looks at the users that an operator names."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def carry_out(self, order: LookAt, uid: int) -> Iterator[Answer]:
        """Pass the users on; a listener looks at those that this instance owns."""
        if len(order.users) > MAX_USERS:
            yield Refused(f"no more than {MAX_USERS} users can be named at once", again=False)
            return
        if self._supervisor.view is None:
            yield Refused("the daemon does not know the cluster yet")
            return
        log.info("looks asked for", users=len(order.users), by=uid)
        self._supervisor.on_look(map(user_document_id, order.users), Lane.OPERATOR)
        yield Done()
