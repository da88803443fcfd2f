"""Monitoring by Prometheus: the metrics, the rules with their tests, and the dashboard."""
