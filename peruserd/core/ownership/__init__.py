"""Ranges of the hash space, and the owner of a document."""
