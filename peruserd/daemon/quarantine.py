"""Carries out an operator's orders about quarantined users: to list them, try them now, or forget them."""

from collections.abc import Iterator

import structlog

from peruserd.core.common.names import user_document_id, user_name
from peruserd.core.processes.control import MAX_USERS, Answer, Done, Found, Quarantine, Refused, Unknown
from peruserd.core.processes.lifecycle import State
from peruserd.core.users.inquiries import Inquiry, QuarantineAction
from peruserd.core.users.quarantine import UNSERVABLE_NAME
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.questions import NotAnsweredError, Questions

_NOT_THERE = (
    "not in quarantine here: the user is served, waits to be, belongs to another node's instance (`peruserd owner` "
    "names it) or is not there (`peruserd audit --user` says so); a name that can have no database "
    f"({UNSERVABLE_NAME}) is never kept"
)

log = structlog.get_logger(__name__)


class QuarantineOrders:
    """Carries out orders about the quarantine, by asking one listener after the other."""

    def __init__(self, fleet: Fleet, questions: Questions) -> None:
        self._fleet = fleet
        self._questions = questions

    def carry_out(self, order: Quarantine, uid: int) -> Iterator[Answer]:
        """Carry out an order of the user with this id: each user found, those not found, and how it ended."""
        if len(order.users) > MAX_USERS:
            yield Refused(f"no more than {MAX_USERS} users can be named at once", again=False)
            return
        users: set[str] = set()
        silent: list[str] = []
        count = 0
        for listener in self._fleet.status().listeners:
            try:
                for found in self._found(listener, order):
                    count += 1
                    if order.users:
                        users.add(found.user)
                    yield found
            except NotAnsweredError as error:
                silent.append(str(error))
        if order.action is not QuarantineAction.LIST:
            log.info("quarantine", order=order.action.value, users=count, kind=order.kind, by=uid)
        if silent:
            yield Refused(f"not all of the quarantine was seen: {'; '.join(silent)}")
            return
        yield from (Unknown(each, _NOT_THERE) for each in order.users if each not in users)
        yield Done()

    def _found(self, listener: ListenerStatus, order: Quarantine) -> Iterator[Found]:
        if listener.state is not State.RUNNING:
            raise NotAnsweredError(f"the listener of {listener.copy} does not run now")
        inquiry = Inquiry(0, order.action, tuple(map(user_document_id, order.users)), order.kind)
        for kept in self._questions.ask(listener.copy, inquiry):
            yield Found(user_name(kept.document) or "", str(listener.copy), kept)
