"""Other Pythons that tests start."""

from __future__ import annotations

import os
import subprocess
import sys


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Another Python that imports what this one imports."""
    paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
    return subprocess.run([sys.executable, *arguments], env={**os.environ, "PYTHONPATH": paths, **environment},
                          capture_output=True, text=True, timeout=300, check=False)
