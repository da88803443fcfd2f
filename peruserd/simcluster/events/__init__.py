"""Events beside the requests of clients: the first content of a cluster, splits, moves, damage, and couch_peruser."""
