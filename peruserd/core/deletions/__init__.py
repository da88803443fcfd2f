"""Dropping databases of deleted users: the journal, and the last decision before a drop."""
