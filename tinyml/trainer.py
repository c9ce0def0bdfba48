"""Trainer: the loop over epochs, with progress, validation, checkpoints, and a diagnosis of values gone bad."""

from __future__ import annotations

import json
import math
import operator
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tqdm import tqdm

from . import random
from .errors import DtypeError, FileError, NonFiniteError, ShapeError
from .io.atomic import write_whole
from .io.checkpoints import Epoch, Progress, batches_left, epoch_of, read_checkpoint, write_checkpoint
from .nn import functional as F
from .nn.finite import bad_element, first_non_finite
from .nn.module import Module, Parameter
from .optim import Optimizer, Schedule, grad_norm
from .tape import no_grad
from .tensor import Tensor, as_tensor

Metric = Callable[[np.ndarray, np.ndarray], float]
CHECKPOINT = "checkpoint.safetensors"


class Trainer:
    """Trains `model` with `optimizer` on batches (inputs, targets), minimising loss(model(inputs), targets).

    loss: a mean over the targets; integer targets equal to its ignore_index (-100 if it has none) do not count.
    accumulate: batches an update, whose gradient is the mean of theirs; what is left at the end of an epoch makes one too.
    schedule: steps after every update. clip_norm: the largest norm of the gradient. progress: bars on stderr.
    checkpoint_dir: a folder, made if need be. Every epoch writes checkpoint.safetensors, from which `fit(resume=True)`
    continues, history.json and, if it is the best so far, best.safetensors, a state dict. checkpoint_every: updates within
    an epoch after which the checkpoint is written too.
    `history` has one dict an epoch, and grows over calls of `fit`.
    Raises DtypeError for arguments of other kinds, ShapeError where they do not belong together.
    """

    def __init__(self, model: Module, optimizer: Optimizer, loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
                 schedule: Schedule | None = None, clip_norm: float | None = None,
                 checkpoint_dir: str | os.PathLike | None = None, progress: bool = True, accumulate: int = 1,
                 checkpoint_every: int | None = None):
        for value, kind in ((model, Module), (optimizer, Optimizer), (schedule, Schedule)):
            if not isinstance(value, kind) and not (value is None and kind is Schedule):
                raise DtypeError(f"Trainer: expected a tinyml {kind.__name__}, got {type(value)}")
        if not {id(p) for p in model.parameters()} & {id(p) for p in optimizer.parameters}:
            raise ShapeError("Trainer: expected an optimizer of the model's parameters, got one of none of them")
        if schedule is not None and schedule.optimizer is not optimizer:
            raise ShapeError("Trainer: expected a schedule of the optimizer given, got one of another optimizer")
        if clip_norm is not None and not clip_norm > 0:
            raise ShapeError(f"Trainer: expected clip_norm above 0, got {clip_norm}")
        for name, number in (("accumulate", accumulate), ("checkpoint_every", checkpoint_every)):
            if not (isinstance(number, (int, np.integer)) and number >= 1) and (number is not None or name == "accumulate"):
                raise ShapeError(f"Trainer: expected {name} to be a whole number of at least 1, got {number!r}")
        if checkpoint_every is not None and checkpoint_dir is None:
            raise ShapeError("Trainer: checkpoint_every needs a checkpoint_dir, got none")
        self.model, self.optimizer, self.loss, self.schedule = model, optimizer, loss, schedule
        self.clip_norm, self.progress = clip_norm, progress
        self.accumulate, self.checkpoint_every = accumulate, checkpoint_every
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        if self.checkpoint_dir is not None:
            self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        self.history: list[dict[str, float]] = []
        self._best: tuple[str, float] | None = None     # what the best checkpoint was chosen by, larger is better

    # -- training -----------------------------------------------------------------------------------------------------
    def fit(self, loader: Iterable, epochs: int, validation: Iterable | None = None, metric: str | Metric = "accuracy",
            resume: bool = False) -> list[dict[str, float]]:
        """Train for `epochs` passes over `loader`; `history`, whose dicts have epoch, train_loss, lr, seconds and, with
        `validation`, validation_loss and (class targets) validation_accuracy.

        metric chooses the best checkpoint: "accuracy" (else loss where there is none), "loss", of the validation (else
        of the training), or metric(outputs, targets) of a validation batch's ndarrays, averaged, larger is better.

        resume: continue from checkpoint_dir's checkpoint, or begin where there is none, so that the same program starts
        a run and continues it. `epochs` counts those of the checkpoint. The results are those of a run that was never
        interrupted, bit for bit, if the program is the same; a loader other than tinyml's must give the same batches in
        the same epoch again, drawing only from tinyml.random.

        Raises:
            NonFiniteError: a loss, or with clip_norm a gradient, is not finite; names the first value that went bad.
                Weights are as after the last update, buffers as before that batch.
            ShapeError: epochs below 1, no batch in an epoch, batches that are no pairs, an unknown metric.
            FileError: a checkpoint that cannot be written; to resume from: damaged, or of another model, optimizer,
                schedule or loader.
        """
        if not isinstance(epochs, (int, np.integer)) or epochs < 1:
            raise ShapeError(f"fit: expected epochs to be a whole number of at least 1, got {epochs!r}")
        if metric not in ("accuracy", "loss") and not (callable(metric) and validation is not None):
            raise ShapeError("fit: expected metric 'accuracy', 'loss' or, with a validation loader, a function; "
                             f"got {metric!r} and {'no' if validation is None else 'a'} validation loader")
        done = self._resume(loader, validation) if resume else None
        with mode(self.model, training=True):
            for _ in range(len(self.history) if resume else 0, epochs):
                epoch = done or Epoch(epoch_of(loader), random.get_state())
                start, done = time.perf_counter() - epoch.seconds, None
                self._train_epoch(loader, validation, epoch, start)
                row: dict[str, float] = {"epoch": len(self.history) + 1,
                                         "train_loss": epoch.loss / max(epoch.count, 1), "lr": epoch.lr}
                if validation is not None:
                    found = self.evaluate(validation, metric if callable(metric) else None)
                    row |= {f"validation_{key}": value for key, value in found.items() if key != "count"}
                row["seconds"] = time.perf_counter() - start
                self.history.append(row)
                if self.progress and validation is not None:
                    tqdm.write("  " + ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in row.items()
                                                if k.startswith("validation")), file=sys.stderr)
                if self.checkpoint_dir is not None:
                    self._keep_best(row, metric)
                    write_whole(self.checkpoint_dir / "history.json", json.dumps(self.history, indent=1).encode())
                    self._write_checkpoint(loader, validation, None)
        return self.history

    def _train_epoch(self, loader: Iterable, validation: Iterable | None, epoch: Epoch, start: float) -> None:
        """One pass, from where `epoch` is to its end; keeps `epoch` up to date."""
        number, collected = len(self.history) + 1, 0
        batches = batches_left(loader, epoch)
        buffers = [t for _, t in self.model.named_tensors() if not isinstance(t, Parameter)]
        with tqdm(batches, desc=f"epoch {number}", disable=not self.progress, dynamic_ncols=True, initial=epoch.batches,
                  total=operator.length_hint(loader) or None) as bar:
            for batch in bar:
                x, y = pair("fit", batch)
                if not collected:
                    self.optimizer.zero_grad()
                    epoch.lr = self.optimizer.lr
                where, undo = f"epoch {number}, step {epoch.batches + 1}", _undo(buffers)
                loss, n = self._add_gradients(x, y, where, undo), int(self._counted(y).sum())
                epoch.loss, epoch.count, epoch.batches = epoch.loss + loss * n, epoch.count + n, epoch.batches + 1
                bar.set_postfix(loss=f"{epoch.loss / max(epoch.count, 1):.4f}", lr=f"{epoch.lr:.2e}", refresh=False)
                collected += 1
                if collected == self.accumulate:
                    self._update(collected, where, undo)
                    collected, epoch.updates = 0, epoch.updates + 1
                    if self.checkpoint_every and epoch.updates % self.checkpoint_every == 0:
                        epoch.seconds = time.perf_counter() - start
                        self._write_checkpoint(loader, validation, epoch)
            if collected:
                self._update(collected, where, undo)
        if not epoch.batches:
            raise ShapeError(f"fit: epoch {number}: no batch came from the {type(loader).__name__}; expected a "
                             "DataLoader or a list, which can be passed over once an epoch")

    def _add_gradients(self, x: Tensor, y: Tensor, where: str, undo: Callable[[], None]) -> float:
        """Add the gradients of a batch to those there are; its loss."""
        try:
            loss = self._loss(self.model(x), y)
            value = loss.item()
            if not math.isfinite(value):
                undo()
                culprit = first_non_finite(self.model, lambda: self._loss(self.model(x), y), x, y)
                raise NonFiniteError(f"{where}: expected a finite loss, got {value}; the first to go bad: {culprit}")
            loss.backward()
        except NonFiniteError:
            undo()
            raise
        return value

    def _update(self, batches: int, where: str, undo: Callable[[], None]) -> None:
        """A step along the mean of the gradients of so many batches."""
        scale = 1 / batches
        if self.clip_norm is not None:
            try:
                scale *= min(1.0, self.clip_norm / (grad_norm(self.optimizer.parameters) * scale + 1e-6))
            except NonFiniteError as error:
                undo()
                found = (f"that of {name}: {bad}" for name, p in self.model.named_parameters()
                         if p.grad is not None and (bad := bad_element(np.isfinite, p.grad.data)))
                culprit = next(found, str(error))       # the optimizer may hold parameters from outside the model
                raise NonFiniteError(f"{where}: expected finite gradients, got {culprit}") from error
        self.optimizer.step(scale)
        if self.schedule is not None:
            self.schedule.step()

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = self.loss(outputs, targets)
        if not isinstance(loss, Tensor) or loss.size != 1:
            raise ShapeError("Trainer: expected the loss function to return a Tensor of one element, got "
                             + (f"shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__))
        return loss

    def _counted(self, targets: Tensor) -> np.ndarray:
        """Which targets the mean loss is over: class ids other than ignore_index, or samples."""
        if targets.dtype.kind not in "iu":
            return np.ones(len(targets), bool)
        return targets.data != getattr(self.loss, "ignore_index", -100)     # -100 is cross_entropy's default

    # -- using the model ----------------------------------------------------------------------------------------------
    def evaluate(self, loader: Iterable, metric: Metric | None = None) -> dict[str, float]:
        """{"loss", "accuracy", "count"} over `loader`, in evaluation mode, without gradients.

        Means over all samples, or over all target elements for class targets (B,) or (B, T) of logits (..., C);
        only those have an accuracy. With `metric`, "metric" is its mean.

        Raises:
            ShapeError: no batch, or batches that are no pairs.
        """
        loss, correct, score, count, scored = 0.0, 0, 0.0, 0, 0
        with mode(self.model, training=False), no_grad():
            for batch in loader:
                x, y = pair("evaluate", batch)
                counted = self._counted(y)
                n = int(counted.sum())
                if not n:
                    continue        # the mean over none is NaN
                outputs = self.model(x).dequantize()
                values = outputs.numpy()
                loss, count = loss + self._loss(outputs, y).item() * n, count + n
                if y.dtype.kind in "iu" and values.shape[:-1] == y.shape:
                    correct, scored = correct + int((values.argmax(-1) == y.data)[counted].sum()), scored + n
                if metric is not None:
                    score += float(metric(values, y.numpy())) * n
        if not count:
            raise ShapeError(f"evaluate: no batch with a target that counts came from the {type(loader).__name__}")
        accuracy = {"accuracy": correct / count} if scored == count else {}
        return {"loss": loss / count, **accuracy, "count": count,
                **({} if metric is None else {"metric": score / count})}

    def predict(self, loader: Iterable) -> np.ndarray:
        """The outputs for all batches (inputs, targets) or inputs, one after the other, in evaluation mode.

        Raises:
            ShapeError: no batch, or one array where batches are expected.
        """
        if isinstance(loader, (Tensor, np.ndarray)):
            raise ShapeError(f"predict: expected batches, got one array of shape {loader.shape}; pass [inputs]")
        with mode(self.model, training=False), no_grad():
            outputs = [self.model(as_tensor(b) if isinstance(b, (Tensor, np.ndarray)) else pair("predict", b)[0])
                       for b in loader]
        if not outputs:
            raise ShapeError(f"predict: no batch came from the {type(loader).__name__}")
        return np.concatenate([y.dequantize().numpy() for y in outputs])

    # -- checkpoints --------------------------------------------------------------------------------------------------
    def load_best(self) -> None:
        """Load the weights of best.safetensors into the model. Raises FileError where it is missing or damaged."""
        if self.checkpoint_dir is None:
            raise FileError("load_best: expected a Trainer with a checkpoint_dir, got none")
        path = self.checkpoint_dir / "best.safetensors"
        try:
            values = load_file(path)
        except (OSError, SafetensorError) as error:
            raise FileError(f"load_best: expected {path} as fit writes it: {error}") from error
        self.model.load_state_dict(values)

    def _keep_best(self, row: dict[str, float], metric: str | Metric) -> None:
        kind, score = _score(row, metric)
        if self._best is None or self._best[0] != kind or score > self._best[1]:
            write_whole(self.checkpoint_dir / "best.safetensors", save(self.model.state_dict()))
            self._best = kind, score

    def _write_checkpoint(self, loader: Iterable, validation: Iterable | None, epoch: Epoch | None) -> None:
        # after best.safetensors: a run that stops between the two comes by that epoch again and writes the same
        write_checkpoint(self.checkpoint_dir / CHECKPOINT, self.model, self.optimizer, self.schedule,
                         Progress(self.history, self._best, random.get_state(), epoch_of(loader), epoch_of(validation),
                                  epoch))

    def _resume(self, loader: Iterable, validation: Iterable | None) -> Epoch | None:
        """Continue from the checkpoint, if there is one; the epoch it was in the middle of."""
        if self.checkpoint_dir is None:
            raise FileError("fit: to resume, expected a Trainer with a checkpoint_dir, got none")
        path = self.checkpoint_dir / CHECKPOINT
        if not path.exists():
            return None
        progress = read_checkpoint(path, self.model, self.optimizer, self.schedule)
        self.history[:], self._best = progress.history, progress.best
        for batches, epoch in ((loader, progress.loader_epoch), (validation, progress.validation_epoch)):
            if epoch_of(batches) is not None and epoch is not None:
                batches.epoch = epoch
        return progress.epoch


def _undo(buffers: list[Tensor]) -> Callable[[], None]:
    """A function that puts buffers and tinyml.random back to what they are now."""
    generator, values = random.get_state(), [t.data.copy() for t in buffers]

    def undo() -> None:
        random.set_state(generator)
        for t, before in zip(buffers, values, strict=True):
            t.data[...] = before

    return undo


def _score(row: dict[str, float], metric: str | Metric) -> tuple[str, float]:
    """What the best epoch is chosen by, and its value here, larger is better; a NaN is worse than all."""
    wanted = "validation_metric" if callable(metric) else f"validation_{metric}"
    kind = next(key for key in (wanted, "validation_loss", "train_loss") if key in row)
    value = -row[kind] if kind.endswith("_loss") else row[kind]
    return kind, -math.inf if math.isnan(value) else value


@contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """The whole model in training or evaluation mode, and every layer back in its own at the end."""
    before = [(m, m.training) for m in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for m, was in before:
            m.training = was


def pair(what: str, batch: Any) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a batch; raises ShapeError, naming `what`, for all else."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ShapeError(f"{what}: expected batches (inputs, targets), got {type(batch).__name__}"
                         + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""))
    return as_tensor(batch[0]), as_tensor(batch[1])
