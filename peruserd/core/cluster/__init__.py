"""The cluster as one instance sees it: nodes, shard map, leases, lists of databases, and the plan that follows."""
