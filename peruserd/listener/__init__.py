"""The child process: one listener, which follows one shard copy and serves the users it owns."""
