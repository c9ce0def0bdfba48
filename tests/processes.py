"""Other Pythons that tests start."""

from __future__ import annotations

import os
import subprocess
import sys


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run another Python process with the import path of this one, and wait for it."""
    return subprocess.run([sys.executable, *arguments], env=_environment() | environment, capture_output=True, text=True,
                          timeout=300, check=False)


def start_python(*arguments: str) -> subprocess.Popen:
    """Start another Python process, which runs beside this one."""
    return subprocess.Popen([sys.executable, *arguments], env=_environment())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
