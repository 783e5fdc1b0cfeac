"""Erase what a deletion names. Only this package and `retention` delete personal rows."""
