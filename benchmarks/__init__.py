"""Measurements of tinyml, each one command away: python -m benchmarks (speed), python -m benchmarks.accuracy."""
