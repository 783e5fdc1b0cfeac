"""What Prometheus is told of the service: asked of PostgreSQL at scrape time, so that all processes say the same."""
