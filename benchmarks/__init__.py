"""Benchmarks, each figure as a ratio to a floor of the same run: `make bench`, docs/explanation/benchmarks.md."""
