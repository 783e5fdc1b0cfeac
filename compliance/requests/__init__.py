"""Requests: file, decide, find and preview. All changes that people and clients ask for go through `operations`."""
