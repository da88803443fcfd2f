"""Whether a 404 means that a database is not there.

A missing database ends a revocation or a drop, so the 404 must come from CouchDB and be about this database. A proxy
can cause a false one in two ways:

- It answers with its own 404, not in CouchDB's form.
- It decodes `%2F`. The path of a database with a slash in its name then becomes another path, and CouchDB says in its
  own words that this one is missing. A request for the server's list of names needs no slash in the path, so it shows
  the truth.
"""

import msgspec

from peruserd.couch.answers import Answer
from peruserd.couch.errors import UnexpectedAnswerError
from peruserd.couch.session import Session


def believe_missing(session: Session, database: str, answer: Answer) -> None:
    """Return if a 404 really means that there is no such database; raise UnexpectedAnswerError if not."""
    if not answer.has_reason:
        raise UnexpectedAnswerError(f"{answer.request}: 404 in words that are not CouchDB's")
    if "/" in database and database in names_between(session, database, database, limit=1):
        raise UnexpectedAnswerError(
            f"{answer.request}: 404, but the server lists the database: something on the way decodes %2F in paths"
        )


def names_between(session: Session, start_key: str, end_key: str, *, limit: int) -> list[str]:
    """Return the names of the databases from `start_key` up to `end_key`, at most `limit`, ascending.

    CouchDB 1.x ignores keys and limit, and returns every name.
    """
    params = {
        "start_key": msgspec.json.encode(start_key).decode(),
        "end_key": msgspec.json.encode(end_key).decode(),
        "limit": str(limit),
    }
    return session.request("GET", "/_all_dbs", params=params).expect(200).decode(list[str])
