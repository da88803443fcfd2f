"""One listener without a cluster: recorded feeds, a server that has them, their replay, and the stages of the work."""
