"""The embedded PostgreSQL and S3 server of a development copy, which start and stop with it."""
