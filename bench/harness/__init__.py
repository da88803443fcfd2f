"""The shared parts of all benchmarks on a cluster: the cluster, sign-ups, the contenders, the watch."""
