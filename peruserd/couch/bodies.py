"""The bodies of answers: read with a limit, and a long poll's with as much patience as it was asked for."""

import time
from collections.abc import Iterator
from typing import Final

import requests
from urllib3.exceptions import ReadTimeoutError

from peruserd.couch import errors

# A long poll that is answered this long after the time it was asked to wait is a late one; later than that, none.
_LATE_SECONDS: Final = 5.0

_CHUNK_BYTES: Final = 65_536


def whole_seconds(read_timeout: float, wait_seconds: float) -> float:
    """Return how long a whole answer may take, besides what its size is worth.

    It is one silence before the answer and one in its midst. The first one of a long poll lasts until it is late.
    """
    silence = read_timeout + wait_seconds
    return silence + (wait_seconds + _LATE_SECONDS if wait_seconds > 0 else silence)


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Give the body as it comes."""
    return response.iter_content(_CHUNK_BYTES)


def bounded(named: str, response: requests.Response, parts: Iterator[bytes], limit_bytes: int) -> bytes:
    """Return the body; one that goes on beyond the limit is not read any further, and its connection is ended."""
    body = bytearray()
    for chunk in parts:
        body += chunk
        if len(body) > limit_bytes:
            response.close()
            raise errors.TooLargeError(f"{named}: the answer has more than {limit_bytes:,} bytes")
    return bytes(body)


def patiently(named: str, response: requests.Response, wait_seconds: float) -> Iterator[bytes]:
    """Give the body of a long poll's answer.

    PouchDB Server begins to answer at once, takes no notice of the time it is asked to wait, and sends a line break
    now and then for ever; when the database is deleted meanwhile, not even that.
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
    """Say whether this is a time-out in the midst of an answer, which requests calls a broken connection."""
    return any(isinstance(each, ReadTimeoutError) for each in error.args)
