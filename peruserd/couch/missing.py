"""Whether a 404 means that a database is not there.

To take a database for missing ends a revocation and a drop, so it must be CouchDB's word about this database. Two
things can stand between:

- A proxy has a 404 of its own, in other words or without any.
- A proxy decodes `%2F`. A database with a slash in its name is asked for by another one's path then, and CouchDB says
  in its own words that there is no such thing. The server's list of names is asked for without a slash.
"""

import msgspec

from peruserd.couch.answers import Answer
from peruserd.couch.errors import UnexpectedAnswerError
from peruserd.couch.session import Session


def believe_missing(session: Session, database: str, answer: Answer) -> None:
    """Return where a 404 means that there is no such database; raises UnexpectedAnswerError where it does not."""
    if not answer.has_reason:
        raise UnexpectedAnswerError(f"{answer.request}: 404 in words that are not CouchDB's")
    if "/" in database and database in names_between(session, database, database, limit=1):
        raise UnexpectedAnswerError(
            f"{answer.request}: 404, but the server lists the database: something on the way decodes %2F in paths"
        )


def names_between(session: Session, start_key: str, end_key: str, *, limit: int) -> list[str]:
    """Return the names of the databases from `start_key` up to `end_key`, at most `limit`, ascending.

    CouchDB 1.x passes over all of that, and returns every name.
    """
    params = {
        "start_key": msgspec.json.encode(start_key).decode(),
        "end_key": msgspec.json.encode(end_key).decode(),
        "limit": str(limit),
    }
    return session.request("GET", "/_all_dbs", params=params).expect(200).decode(list[str])
