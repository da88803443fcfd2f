"""Reading the bodies of answers: with a size limit, and for a long poll with a time limit of its own."""

import time
from collections.abc import Iterator
from typing import Final

import requests
from urllib3.exceptions import ReadTimeoutError

from peruserd.couch import errors

# A long poll may end this long after the time that the server was asked to wait. After that it counts as empty.
_LATE_SECONDS: Final = 5.0

_CHUNK_BYTES: Final = 65_536


def whole_seconds(read_timeout: float, wait_seconds: float) -> float:
    """Return how long a whole answer may take; `Allowance` adds time for a large one.

    The limit allows for one silence before the answer and one within it. A long poll's answer may last until the poll
    is late.
    """
    silence = read_timeout + wait_seconds
    return silence + (wait_seconds + _LATE_SECONDS if wait_seconds > 0 else silence)


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it arrives."""
    return response.iter_content(_CHUNK_BYTES)


def bounded(named: str, response: requests.Response, parts: Iterator[bytes], limit_bytes: int) -> bytes:
    """Return the body. If it is longer than the limit, close the connection and raise TooLargeError."""
    body = bytearray()
    for chunk in parts:
        body += chunk
        if len(body) > limit_bytes:
            response.close()
            raise errors.TooLargeError(f"{named}: the answer has more than {limit_bytes:,} bytes")
    return bytes(body)


def patiently(named: str, response: requests.Response, wait_seconds: float) -> Iterator[bytes]:
    """Yield the body of a long poll's answer.

    PouchDB Server begins to answer at once, ignores the time that it is asked to wait, and sends a line break now and
    then, for ever. If the database is deleted meanwhile, it sends nothing at all.
    """
    patience_ends = time.monotonic() + wait_seconds + _LATE_SECONDS
    with response:
        try:
            for chunk in chunks(response):
                if not chunk.strip() and time.monotonic() > patience_ends:
                    raise errors.NothingYetError(f"{named}: no end of the answer {wait_seconds:g} s after it began")
                yield chunk
        except requests.ConnectionError as error:
            if is_silence(error):
                raise errors.NothingYetError(f"{named}: the answer began and went silent") from error
            raise


def is_silence(error: Exception) -> bool:
    """Say whether this is a time-out within an answer; `requests` reports it as a broken connection."""
    return any(isinstance(each, ReadTimeoutError) for each in error.args)
