"""Erase what a deletion names. The only package that deletes personal rows or objects."""
