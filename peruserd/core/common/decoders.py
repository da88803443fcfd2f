"""Decoders of JSON, one for each type, made by one thread at a time.

msgspec works out how a type is read when it is first used. Two threads that do so for the same class at the same time
can end the process by a segmentation fault (seen with msgspec 0.22). So everything that
threads decode goes through a decoder that is made under a lock, or by the import of its module.
"""

import threading
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

_MAKING: Final = threading.Lock()
_MADE: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def json_decoder(shape: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder for a type; for any thread."""
    found = _MADE.get(shape)
    if found is None:
        with _MAKING:
            found = _MADE.get(shape) or _MADE.setdefault(shape, msgspec.json.Decoder(shape))
    return found
