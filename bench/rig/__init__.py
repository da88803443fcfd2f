"""What the benchmarks that need a cluster share: the cluster, who signs up, who serves, who watches."""
