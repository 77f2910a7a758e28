"""Benchmarks of the normaliser and its peers; the source of every timing in the README."""
