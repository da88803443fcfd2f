"""The supervisor: watches the cluster and runs one listener process for each shard copy; it serves nobody itself."""
