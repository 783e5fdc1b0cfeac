"""Retention: which rows and objects have expired, and the cleanup that removes them."""
