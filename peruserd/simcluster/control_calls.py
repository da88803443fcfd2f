"""The form in which calls of `Controls` travel between threads and processes: a name and JSON values.

This form follows from the signature of an operation, so a new operation needs no code here.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from peruserd.simcluster.controls import Controls


class ControlCall:
    """One operation: its arguments and its answer as JSON values, and back."""

    def __init__(self, operation: Callable[..., Any]) -> None:
        self.operation = operation
        self._signature = inspect.signature(operation)
        self._types = get_type_hints(operation)
        self._answers_rows = _has_tuples_as_keys(self._types["return"])

    def encode_arguments(self, *arguments: object, **named: object) -> dict[str, Any]:
        """Return the arguments of a call by name. TypeError where the operation does not take them."""
        given = self._signature.bind(self, *arguments, **named).arguments
        del given["self"]
        encoded: dict[str, Any] = msgspec.to_builtins(given)
        return encoded

    def decode_arguments(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments in the operation's own types. ValueError where it does not take them."""
        try:
            self._signature.bind(self, **encoded)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return {name: msgspec.convert(value, self._types[name]) for name, value in encoded.items()}

    def encode_answer(self, answer: Any) -> Any:
        """Return an answer as JSON values. A mapping with tuples as keys becomes rows: `[*key, value]`."""
        if self._answers_rows:
            answer = [[*key, value] for key, value in sorted(answer.items())]
        return msgspec.to_builtins(answer)

    def decode_answer(self, encoded: Any) -> Any:
        """Return an answer in the type that the operation returns."""
        if self._answers_rows:
            encoded = {tuple(key): value for *key, value in encoded}
        return msgspec.convert(encoded, self._types["return"])


def _has_tuples_as_keys(annotation: Any) -> bool:
    return get_origin(annotation) is dict and get_origin(get_args(annotation)[0]) is tuple


CALLS: Final = {
    name: ControlCall(operation)
    for name, operation in vars(Controls).items()
    if inspect.isfunction(operation) and not name.startswith("_")
}
"""All operations, by name."""
