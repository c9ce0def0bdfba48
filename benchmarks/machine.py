"""The machine that the benchmarks ran on: CPU, cores, caches, instruction set, versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import tinyml

CACHES = {"L1d": "SC_LEVEL1_DCACHE_SIZE", "L2": "SC_LEVEL2_CACHE_SIZE", "L3": "SC_LEVEL3_CACHE_SIZE"}


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo(*keys: str) -> str:
    """The first of these fields that /proc/cpuinfo has, else an empty string."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return next((fields[key] for key in keys if key in fields), "")


def cache_bytes(level: str) -> int:
    """The bytes of the cache "L1d", "L2" or "L3" of one core; 0 if the system does not say."""
    try:
        return max(os.sysconf(CACHES[level]), 0)
    except (AttributeError, ValueError, OSError):
        return 0


def describe() -> dict[str, Any]:
    """The machine, for the JSON file and the head of the table."""
    flags = _cpuinfo("flags", "Features").split()
    return {"cpu": _cpuinfo("model name") or platform.processor() or platform.machine(), "cores": cores(),
            "caches": {level: cache_bytes(level) for level in CACHES}, "flags": flags, **tinyml.config()}


def versions() -> dict[str, str]:
    """The versions of tinyml, Python and NumPy."""
    return {"tinyml": tinyml.__version__, "python": platform.python_version(), "numpy": np.__version__}
