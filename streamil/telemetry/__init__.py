"""Metrics, health and the live page of a running process: the one place that knows HTTP and Prometheus."""
