"""Ranges of the hash space, and the instance that acts on a document."""
