"""Measurements: how fast, against whom, how far from the limit. `python -m benchmarks --help`."""
