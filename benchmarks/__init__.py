"""Measurements of tinyml: python -m benchmarks for speed and memory, python -m benchmarks.accuracy for accuracy."""
