"""Measurements of tinyml, each one command away: python -m benchmarks.accuracy."""
