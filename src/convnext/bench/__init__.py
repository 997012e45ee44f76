"""Benchmarks of speed, memory and agreement: the package's engines and other libraries."""
