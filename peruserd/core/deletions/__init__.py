"""Dropping databases of deleted users: the journal, and the decision at the last moment."""
