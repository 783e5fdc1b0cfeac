"""The pages of requests: the list, and each request with its history and the decisions that are possible now."""
