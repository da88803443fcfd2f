"""The parts that benchmarks on a cluster share: the cluster, sign-ups, the contenders that serve, the watch."""
