"""Decoders of JSON, one for each type, made by one thread at a time.

msgspec prepares a type when it is first used. If two threads do that for the same class at the same time, the process
can die of a segmentation fault (seen with msgspec 0.22). So threads only decode with decoders that were made under a
lock, or by the import of their module.
"""

import threading
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

_MAKING: Final = threading.Lock()
_MADE: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def json_decoder(shape: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder for a type. Any thread may call this."""
    found = _MADE.get(shape)
    if found is None:
        with _MAKING:
            found = _MADE.get(shape) or _MADE.setdefault(shape, msgspec.json.Decoder(shape))
    return found
