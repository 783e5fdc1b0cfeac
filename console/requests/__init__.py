"""The pages of requests: the list, and each request with its history and what can be decided of it now."""
