"""The supervisor watches the cluster and runs one listener process for each shard copy. It serves no user itself."""
