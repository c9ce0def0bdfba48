"""The folder of a training run: its checkpoint, its best weights and its history; one Trainer at a time uses it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..atomic import remove_leftovers, write_whole
from ..errors import FileError, TinymlError
from ..nn.module import Module
from .container import pack, unpack
from .lock import locked

CHECKPOINT, BEST, HISTORY = NAMES = "checkpoint.safetensors", "best.safetensors", "history.json"


class RunFolder:
    """A Trainer's checkpoint_dir, which is made if it does not exist.

    Raises:
        DtypeError: `path` is not a path.
        FileError: the folder cannot be made, or is a file.
    """

    def __init__(self, path: Any):
        self.path = Path(checks.path("Trainer", path, "checkpoint_dir"))
        self._own: dict[str, tuple[int, ...]] = {}        # the files as this object left them
        self._make()

    @property
    def checkpoint(self) -> Path:
        """The file to resume from."""
        return self.path / CHECKPOINT

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = "is a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or error
            raise FileError(f"{self.path}: expected a folder as checkpoint_dir, or a path for a new one: {what}") from error

    @contextmanager
    def used(self, resume: bool, overwrite: bool) -> Iterator[None]:
        """Keep all other Trainers out while the block runs.

        Raises:
            FileError: another Trainer uses the folder, nothing can be written there, or files of another run are there and
                neither `resume` nor `overwrite` is set.
        """
        self._make()
        with locked(self.path, "Trainer") as alone:
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise FileError(f"{self.path}: cannot write checkpoints there: the folder is read-only")
            others = [name for name, found in self._files().items() if found != self._own.get(name)]
            if others and overwrite:
                self._remove(others)
            elif others and not resume:
                raise FileError(f"{self.path}: holds {', '.join(others)} of another run; continue it with "
                                "fit(resume=True), replace it with fit(overwrite=True), or give the Trainer another "
                                "checkpoint_dir")
            for name in NAMES if alone else ():
                remove_leftovers(self.path / name)
            try:
                yield
            finally:
                self._own = self._files()

    def _files(self) -> dict[str, tuple[int, ...]]:
        """For each existing file, what distinguishes it from any file that is written later."""
        found: dict[str, tuple[int, ...]] = {}
        for name in NAMES:
            if (self.path / name).exists():
                about = (self.path / name).stat()
                found[name] = about.st_ino, about.st_size, about.st_mtime_ns
        return found

    def _remove(self, names: list[str]) -> None:
        for name in names:
            try:
                (self.path / name).unlink()
            except OSError as error:
                raise FileError(f"{self.path / name}: cannot overwrite: {error.strerror or error}") from error

    def write_best(self, model: Module) -> None:
        """Write the model's state dict, with its digest; safetensors and tinyml.load read it too."""
        write_whole(self.path / BEST, pack({"kind": "state_dict"}, model.state_dict()))

    def read_best(self) -> dict[str, np.ndarray]:
        """The arrays that `write_best` wrote.

        Raises:
            FileError: the file is missing, damaged or not a state dict.
        """
        path = self.path / BEST
        try:
            about, arrays = unpack(path)
            if about.get("kind") != "state_dict":
                raise FileError(f"its kind is {about.get('kind')!r:.80}")
        except TinymlError as error:
            raise FileError(f"load_best: expected {path} as fit writes it: {error}") from error
        return arrays

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write the epochs as JSON, for people and other programs; tinyml reads them from the checkpoint."""
        write_whole(self.path / HISTORY, json.dumps(history, indent=1).encode())
