"""Benchmarks: what the work costs, beside a baseline in the same run. `make bench`; nothing here is a test."""
