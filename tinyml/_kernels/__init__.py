"""The compiled kernels and the Python that calls them. Where they are not built, the import says what to do."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from . import table

_FOLDER = Path(__file__).parent


def is_built(name: str, folder: Path = _FOLDER) -> bool:
    """Whether `folder` has the compiled module of this name, "cpu" or "compiled/avx2/probe", for the Python that runs."""
    return any((folder / f"{name}{suffix}").exists() for suffix in EXTENSION_SUFFIXES)


def _check_built() -> None:
    """Raise ImportError, whose message says what to do, unless everything that any CPU needs has been built."""
    baseline = [table.compiled("baseline", kernel) for kernel in table.KERNELS]
    if all(map(is_built, ("memory", "cpu", "../engine", table.SHARED, *baseline))):
        return
    others = [] if is_built("memory") else sorted(path.name for path in _FOLDER.glob("memory.*.*"))
    raise ImportError(
        f"the kernels in {_FOLDER} are not built for Python {sys.version_info.major}.{sys.version_info.minor}"
        + (f", only for another one ({', '.join(others)})" if others else "")
        + f". Build them: python -m pip install -e '{_FOLDER.parent.parent}'. If tinyml is installed, this checkout "
        "hides it, because Python looks first in the folder that it is started in: start it in another folder")


_check_built()
