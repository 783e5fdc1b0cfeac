"""The PostgreSQL and the S3 server of a development copy, which start with it and end with it."""
