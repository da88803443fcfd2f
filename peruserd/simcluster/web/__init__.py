"""The simulated nodes over HTTP: one server a node, and the pages it serves."""
