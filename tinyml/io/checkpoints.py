"""Checkpoints of training: all that a run needs to continue as if it had never stopped, in one safetensors file."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import random
from ..atomic import write_whole
from ..errors import FileError, TinymlError
from ..nn.module import Module
from ..optim import Optimizer, Schedule
from .container import pack, unpack

BEST_BY = ("validation_metric", "validation_accuracy", "validation_loss", "train_loss")     # see Progress.best
FIGURES = {"train_loss", *BEST_BY}      # the figures of a row of the history; a validation loss may be infinite or NaN
LARGEST = 2**63     # above any count
FLOATS = sys.float_info.max


@dataclass
class Epoch:
    """How far an epoch has come. It is resumed by beginning it again with `loader_epoch` and `random`: same batches."""

    loader_epoch: int | None    # the loader's `epoch`, if it has one, and ...
    random: Mapping[str, Any]   # ... the state of tinyml.random, both from when the epoch began
    batches: int = 0            # how many were trained on
    updates: int = 0            # optimizer steps
    loss: float = 0.0           # the sum over the targets
    count: int = 0              # the number of targets
    lr: float = 0.0             # of the last update
    seconds: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)
    evaluated_loss: float = 0.0     # `loss` and `count` at the last evaluation
    evaluated_count: int = 0

    @property
    def recent_loss(self) -> float:
        """The mean loss since the last evaluation."""
        return (self.loss - self.evaluated_loss) / max(self.count - self.evaluated_count, 1)


@dataclass
class Progress:
    """How far a run has come."""

    history: list[dict[str, Any]]
    best: tuple[str, float] | None      # the figure that the best epoch so far was chosen by, and its value
    random: Mapping[str, Any]           # state of tinyml.random
    loader_epoch: int | None            # `epoch` of the loader, if it has one
    epoch: Epoch | None                 # None: between epochs


def write_checkpoint(path: Path, model: Module, optimizer: Optimizer, schedule: Schedule | None,
                     progress: Progress) -> None:
    """Write the weights, the buffers, the state of optimizer and schedule, and the progress.

    Raises:
        FileError: the file cannot be written; `path` is then as it was before.
    """
    about, arrays = _state(model, optimizer, schedule)
    # the progress is a JSON text of its own, as it may hold NaN or infinity, which a description may not
    write_whole(path, pack({"kind": "checkpoint", **about, "progress": json.dumps(asdict(progress))}, arrays))


def read_checkpoint(path: Path, model: Module, optimizer: Optimizer, schedule: Schedule | None) -> Progress:
    """Restore the model, the optimizer, the schedule and tinyml.random from a checkpoint, and return the progress.

    Raises:
        FileError: the file is missing, damaged, not a checkpoint, or one of another model, optimizer or schedule. In that
            case nothing is changed.
    """
    before, generator = _state(model, optimizer, schedule), random.get_state()
    try:
        about, arrays = unpack(path)
        if about.get("kind") != "checkpoint":
            raise FileError(f"expected a checkpoint of training, got {about.get('kind')!r:.80}; read it with tinyml.load")
        progress = _progress(about)
        for name in ("optimizer_state", "schedule_state"):
            _check_finite(name.replace("_", "'s "), about[name])
        try:
            _restore(about, arrays, model, optimizer, schedule)
            random.set_state(progress.random)
        except BaseException:
            _restore(*before, model, optimizer, schedule)
            random.set_state(generator)
            raise
    except TinymlError as error:
        raise FileError(f"{path}: {error}") from error
    except Exception as error:      # given damaged values, optimizers, schedules and json can raise any exception
        raise FileError(f"{path}: damaged description: {type(error).__name__}: {error}") from error
    return progress


def epoch_of(loader: Any) -> int | None:
    """How many passes over a loader have begun, if it counts them. This and its seed determine the order of its batches."""
    return getattr(loader, "epoch", None)


def set_epoch(loader: Any, passes: int) -> None:
    """Let a loader that counts its passes go on as if so many had begun."""
    loader.epoch = passes


def batches_left(loader: Any, epoch: Epoch) -> Iterator[Any]:
    """The batches of `epoch` that were not trained on yet. The earlier ones are made again, as they were then, and dropped.

    Raises:
        FileError: the loader has fewer batches than were trained on.
    """
    if not epoch.batches:
        return iter(loader)
    now = random.get_state()
    random.set_state(epoch.random)
    if epoch_of(loader) is not None and epoch.loader_epoch is not None:
        set_epoch(loader, epoch.loader_epoch)
    batches: Iterator[Any] = iter(loader)
    for i in range(epoch.batches):
        if next(batches, None) is None:
            raise FileError(f"fit: to resume after {epoch.batches} batches of an epoch, expected a loader of at least as "
                            f"many, got {i} from the {type(loader).__name__}")
    random.set_state(now)
    return batches


def _kinds(optimizer: Optimizer, schedule: Schedule | None) -> dict[str, str | None]:
    return {"optimizer": type(optimizer).__name__, "schedule": None if schedule is None else type(schedule).__name__}


def _state(model: Module, optimizer: Optimizer, schedule: Schedule | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    values = optimizer.state_dict()
    arrays = {f"model.{name}": a for name, a in model.state_dict().items()}
    arrays |= {f"optimizer.{name}": a for name, a in values.items() if isinstance(a, np.ndarray)}
    numbers = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    return {**_kinds(optimizer, schedule), "optimizer_state": numbers,
            "schedule_state": None if schedule is None else schedule.state_dict()}, arrays


def _restore(about: dict[str, Any], arrays: dict[str, np.ndarray], model: Module, optimizer: Optimizer,
             schedule: Schedule | None) -> None:
    for what, kind in _kinds(optimizer, schedule).items():
        if about[what] != kind:
            raise FileError(f"expected a checkpoint with {what} {kind or 'None'}, got {about[what]!r:.80}")
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}}
    for name, a in arrays.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise FileError(f"expected tensors of the model and the optimizer, got {name!r:.80}")
        parts[part][rest] = a
    model.load_state_dict(parts["model"])
    if schedule is not None:
        schedule.load_state_dict(about["schedule_state"])
    # after the schedule, which sets the optimizer's lr: the lr may have been changed since then
    optimizer.load_state_dict({**about["optimizer_state"], **parts["optimizer"]})


def _progress(about: dict[str, Any]) -> Progress:
    """The progress in a description. Every number is checked to be one that training can have written."""
    found = json.loads(about["progress"])
    progress = Progress(**found)
    progress.history = _checked_rows("history", "epochs", progress.history)
    for at, row in enumerate(progress.history):
        if _checked_count("history: epoch", row.get("epoch")) != at + 1:
            raise FileError(f"damaged history: expected epoch {at + 1}, got {row['epoch']}")
    if progress.best is not None:
        kind, value = progress.best
        if kind not in BEST_BY or type(value) not in (int, float) or math.isnan(value):
            raise FileError(f"damaged best: expected one of {', '.join(BEST_BY)} and a number, got {progress.best!r:.80}")
        progress.best = kind, float(value)
    progress.random = _checked_random(progress.random)
    progress.loader_epoch = _checked_passes(progress.loader_epoch)
    if progress.epoch is not None:
        progress.epoch = _checked_epoch(Epoch(**found["epoch"]))
    return progress


def _checked_epoch(epoch: Epoch) -> Epoch:
    epoch.evaluations = _checked_rows("evaluations", "evaluations", epoch.evaluations)
    epoch.loader_epoch, epoch.random = _checked_passes(epoch.loader_epoch), _checked_random(epoch.random)
    for name in ("batches", "updates", "count", "evaluated_count"):
        _checked_count(f"epoch's {name}", getattr(epoch, name))
    for name in ("loss", "lr", "seconds", "evaluated_loss"):
        _checked_number(f"epoch's {name}", getattr(epoch, name), 0.0 if name in ("lr", "seconds") else -math.inf)
    if epoch.updates > epoch.batches or epoch.evaluated_count > epoch.count:
        raise FileError(f"damaged epoch: {epoch.updates} updates of {epoch.batches} batches, {epoch.evaluated_count} "
                        f"targets evaluated of {epoch.count}")
    return epoch


def _checked_rows(what: str, of: str, rows: Any) -> list[dict[str, Any]]:
    """Rows of figures as `fit` notes them, once their `updates` are known to grow from row to row."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "updates" in row for row in rows):
        raise FileError(f"damaged description: expected a list of {of} as {what}, got {rows!r:.80}")
    before = 0
    for row in rows:
        if _checked_count(f"{what}: updates", row["updates"]) < before:
            raise FileError(f"damaged {what}: {row['updates']} updates after {before}")
        before = row["updates"]
        for name, value in row.items():
            if name == "evaluations":
                _checked_rows("evaluations", "evaluations", value)
            elif name in ("lr", "seconds"):
                _checked_number(f"{what}: {name}", value, 0.0)
            elif name in FIGURES and type(value) not in (int, float):
                raise FileError(f"damaged {what}: expected a number as {name}, got {value!r:.80}")
    return rows


def _checked_count(what: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < LARGEST:
        raise FileError(f"damaged {what}: expected a whole number of at least 0, got {value!r:.80}")
    return value


def _checked_number(what: str, value: Any, least: float) -> None:
    # a loss may be as large as a float, but the sums here are of finite losses
    if type(value) not in (int, float) or not least <= value <= FLOATS or value < -FLOATS:
        raise FileError(f"damaged {what}: expected a finite number{'' if least else ' of at least 0'}, got {value!r:.80}")


def _checked_passes(value: Any) -> int | None:
    return None if value is None else _checked_count("loader_epoch", value)


def _checked_random(state: Any) -> Mapping[str, Any]:
    """A state of tinyml.random, once it works on a separate generator."""
    trial = np.random.PCG64(0)
    try:
        trial.state = state
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"damaged state of the random generator: {type(error).__name__}: {error}") from error
    found = trial.state
    if found != state or found["has_uint32"] not in (0, 1) or not found["state"]["inc"] % 2:
        raise FileError(f"damaged state of the random generator: its numbers are out of range, got {state!r:.200}")
    return found


def _check_finite(what: str, values: Any) -> None:
    """Raise FileError for a number in the state of an optimizer or a schedule that no step can have made."""
    for name, value in values.items() if isinstance(values, dict) else ():
        counts = name in ("lr", "base_lr", "parameters", "steps") or name.startswith("updates.")
        if (counts and isinstance(value, bool)) or (isinstance(value, (int, float)) and not -LARGEST < value < LARGEST):
            raise FileError(f"damaged {what}: expected a finite number as {name}, got {value!r:.80}")
