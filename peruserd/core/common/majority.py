"""The one rule for a majority: more than half of all, as CouchDB counts the copies of a document or a database."""


def is_majority(count: int, total: int) -> bool:
    """Say whether `count` of `total` are more than half. Of nothing there is no majority."""
    return 2 * count > total
