"""The controls for callers in other threads and processes: the operations of `Controls`, which travel by `_call`."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peruserd.simcluster.control_calls import CALLS, ControlCall

if TYPE_CHECKING:
    # Type checkers see the operations as they are written. At run time none is inherited: the end of this module makes
    # a forwarding method for each.
    from peruserd.simcluster.controls import Controls as Operations
else:
    Operations = object


class ControlClient(ABC, Operations):
    """The operations of `Controls` under the same names, with the same arguments, answers and errors.

    A subclass decides how a call travels.
    """

    @abstractmethod
    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Have one control carried out by the cluster and return its answer, both as JSON values."""


def _forwarding(name: str, call: ControlCall) -> Callable[..., Any]:
    @functools.wraps(call.operation)
    def forward(client: ControlClient, *arguments: object, **named: object) -> Any:
        return call.decode_answer(client._call(name, call.encode_arguments(*arguments, **named)))  # noqa: SLF001 - its own

    return forward


for _name, _control in CALLS.items():
    setattr(ControlClient, _name, _forwarding(_name, _control))
