"""The data inside the package: found through its manifest, used only with the right checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..errors import FileError
from ._files import file_errors

SHIPPED = Path(__file__).parent / "shipped"


def shipped(name: str, folder: Path = SHIPPED) -> Path:
    """Path of the shipped file `name`. Raises FileError where it or its manifest is missing, or its sha256 is wrong."""
    manifest = folder / "MANIFEST.json"
    with file_errors(manifest, "a JSON list of files"):
        entries = {entry["name"]: entry["sha256"] for entry in json.loads(manifest.read_bytes())["files"]}
    if name not in entries:
        raise FileError(f"{manifest}: expected an entry {name}, got {sorted(entries)}")
    path = folder / name
    with file_errors(path, "a file shipped with tinyml"):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != entries[name]:
        raise FileError(f"{path}: expected sha256 {entries[name]}, got {found}: reinstall tinyml")
    return path
