"""Prometheus metrics, queried from PostgreSQL at scrape time, so that all processes return the same."""
