"""peruserd: a private database for every CouchDB user, kept by one process per shard."""

__version__ = "0.1.0"
