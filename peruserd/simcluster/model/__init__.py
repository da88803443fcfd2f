"""The state of a simulated cluster, without sockets: nodes, shard maps, copies, documents, and how they agree."""
