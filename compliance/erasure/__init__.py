"""Erase the data in the scope of a deletion. Only this package and `retention` delete personal rows."""
