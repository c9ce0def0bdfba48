"""Trainer: the loop over epochs, with progress, validation, checkpoints, and a diagnosis of values gone bad."""

from __future__ import annotations

import json
import math
import operator
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tqdm import tqdm

from . import checks, random
from .errors import DtypeError, FileError, NonFiniteError, ShapeError
from .evaluation import Loss, Metric, counted, evaluate, loss_of, pair, predict
from .io.atomic import write_whole
from .io.checkpoints import Epoch, Progress, batches_left, epoch_of, read_checkpoint, write_checkpoint
from .nn import functional as F
from .nn.finite import bad_element, first_non_finite
from .nn.mode import mode
from .nn.module import Module, Parameter
from .optim import Optimizer, Schedule, grad_norm
from .tape import no_grad
from .tensor import Tensor

CHECKPOINT = "checkpoint.safetensors"


class Trainer:
    """Trains `model` with `optimizer` on batches (inputs, targets), minimising loss(model(inputs), targets).

    loss: a mean over the targets; integer targets equal to its ignore_index (-100 if it has none) do not count.
    accumulate: batches an update, whose gradient is the mean of theirs; what is left at the end of an epoch makes one too.
    schedule: steps after every update. clip_norm: the largest norm of the gradient.
    progress: bars on stderr, with the loss since the last evaluation, and targets (B, T) or samples a second of training.
    evaluate_every: updates within an epoch after which to evaluate, as at its end.
    sample: returns a text, which is printed on stderr at each evaluation; called in evaluation mode, without gradients.
    checkpoint_dir: a folder, made if need be. Every epoch writes checkpoint.safetensors, from which `fit(resume=True)`
    continues, history.json and, if it is the best so far, best.safetensors, a state dict. checkpoint_every: updates within
    an epoch after which the checkpoint is written too. Evaluations within an epoch write the other two.
    `history` has one dict an epoch, and grows over calls of `fit`.
    Raises DtypeError for arguments of other kinds, ShapeError where they do not belong together.
    """

    def __init__(self, model: Module, optimizer: Optimizer, loss: Loss = F.cross_entropy,
                 schedule: Schedule | None = None, clip_norm: float | None = None,
                 checkpoint_dir: str | os.PathLike | None = None, progress: bool = True, accumulate: int = 1,
                 checkpoint_every: int | None = None, evaluate_every: int | None = None,
                 sample: Callable[[], str] | None = None):
        for value, kind in ((model, Module), (optimizer, Optimizer), (schedule, Schedule)):
            if not isinstance(value, kind) and not (value is None and kind is Schedule):
                raise DtypeError(f"Trainer: expected a tinyml {kind.__name__}, got {type(value)}")
        if not {id(p) for p in model.parameters()} & {id(p) for p in optimizer.parameters}:
            raise ShapeError("Trainer: expected an optimizer of the model's parameters, got one of none of them")
        if schedule is not None and schedule.optimizer is not optimizer:
            raise ShapeError("Trainer: expected a schedule of the optimizer given, got one of another optimizer")
        if clip_norm is not None:
            clip_norm = checks.number("Trainer", "clip_norm", clip_norm, above=0, infinite=True)
        if not (sample is None or callable(sample)):
            raise DtypeError(f"Trainer: expected sample to be a function that returns a text, got {type(sample).__name__}")
        for name, number in (("accumulate", accumulate), ("checkpoint_every", checkpoint_every),
                             ("evaluate_every", evaluate_every)):
            if not (isinstance(number, (int, np.integer)) and number >= 1) and (number is not None or name == "accumulate"):
                raise ShapeError(f"Trainer: expected {name} to be a whole number of at least 1, got {number!r}")
        if checkpoint_every is not None and checkpoint_dir is None:
            raise ShapeError("Trainer: checkpoint_every needs a checkpoint_dir, got none")
        self.model, self.optimizer, self.loss, self.schedule = model, optimizer, loss, schedule
        self.clip_norm, self.progress = clip_norm, progress
        self.accumulate, self.checkpoint_every = accumulate, checkpoint_every
        self.evaluate_every, self.sample = evaluate_every, sample
        self.checkpoint_dir = None if checkpoint_dir is None else Path(
            checks.path("Trainer", checkpoint_dir, "checkpoint_dir"))
        if self.checkpoint_dir is not None:
            self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        self.history: list[dict[str, Any]] = []
        self._best: tuple[str, float] | None = None     # what the best checkpoint was chosen by, larger is better

    # -- training -----------------------------------------------------------------------------------------------------
    def fit(self, loader: Iterable, epochs: int, validation: Iterable | None = None, metric: str | Metric = "accuracy",
            resume: bool = False) -> list[dict[str, Any]]:
        """Train for `epochs` passes over `loader`; `history`, whose dicts have epoch, updates (since the first epoch
        began), train_loss, lr, seconds and, with `validation`, validation_loss and (class targets) validation_accuracy.
        With evaluate_every they have evaluations, too: a list of dicts with the same but epoch and seconds, train_loss
        being the mean since the one before.

        validation: is what every evaluation runs on, the same batches each time even if they are drawn at random, as
        tinyml.random then begins from the same seed and the loader's `epoch` stays. Training does not depend on it.

        metric chooses the best evaluation: "accuracy" (else loss where there is none), "loss", of the validation (else
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
        done = self._resume(loader) if resume else None
        with mode(self.model, training=True):
            for _ in range(len(self.history) if resume else 0, epochs):
                epoch, done = done or Epoch(epoch_of(loader), random.get_state()), None
                start = time.perf_counter() - epoch.seconds
                self._train_epoch(loader, validation, metric, epoch, start)
                if not epoch.evaluations or epoch.evaluations[-1]["updates"] != self._updates(epoch):
                    self._evaluate(validation, metric, epoch)
                row = {"epoch": len(self.history) + 1, **epoch.evaluations[-1],
                       "train_loss": epoch.loss / max(epoch.count, 1), "seconds": time.perf_counter() - start}
                if self.evaluate_every:
                    row["evaluations"] = epoch.evaluations
                self.history.append(row)
                if self.checkpoint_dir is not None:
                    self._keep_best(row, metric)
                    self._write_history(self.history)
                    self._write_checkpoint(loader, None)
        return self.history

    def _train_epoch(self, loader: Iterable, validation: Iterable | None, metric: str | Metric, epoch: Epoch,
                     start: float) -> None:
        """One pass, from where `epoch` is to its end; keeps `epoch` up to date."""
        number, collected, items, busy = len(self.history) + 1, 0, 0, 0.0
        batches = batches_left(loader, epoch)
        buffers = [t for _, t in self.model.named_tensors() if not isinstance(t, Parameter)]
        with tqdm(batches, desc=f"epoch {number}", disable=not self.progress, dynamic_ncols=True, initial=epoch.batches,
                  total=operator.length_hint(loader) or None) as bar:
            began = time.perf_counter()
            for batch in bar:
                x, y = pair("fit", batch)
                if not collected:
                    self.optimizer.zero_grad()
                    epoch.lr = self.optimizer.lr
                where, undo = f"epoch {number}, step {epoch.batches + 1}", _undo(buffers)
                loss, n = self._add_gradients(x, y, where, undo), int(counted(self.loss, y).sum())
                epoch.loss, epoch.count, epoch.batches = epoch.loss + loss * n, epoch.count + n, epoch.batches + 1
                collected += 1
                if collected == self.accumulate:
                    self._update(collected, where, undo)
                    collected, epoch.updates = 0, epoch.updates + 1
                unit, new = ("tokens", y.size) if y.dtype.kind in "iu" and y.ndim == 2 else ("samples", len(y))
                items, busy = items + new, busy + time.perf_counter() - began
                bar.set_postfix({"loss": f"{epoch.recent_loss:.4f}", "lr": f"{epoch.lr:.2e}",
                                 f"{unit}/s": f"{items / max(busy, 1e-9):,.0f}"}, refresh=False)
                if not collected:
                    self._after_update(loader, validation, metric, epoch, start)
                began = time.perf_counter()     # evaluations and checkpoints do not count as training
            if collected:
                self._update(collected, where, undo)
                epoch.updates += 1
        if not epoch.batches:
            raise ShapeError(f"fit: epoch {number}: no batch came from the {type(loader).__name__}; expected a "
                             "DataLoader or a list, which can be passed over once an epoch")

    def _after_update(self, loader: Iterable, validation: Iterable | None, metric: str | Metric, epoch: Epoch,
                      start: float) -> None:
        """Evaluate and write the checkpoint where it is time for it within an epoch."""
        if self.evaluate_every and epoch.updates % self.evaluate_every == 0:
            row = self._evaluate(validation, metric, epoch)
            if self.checkpoint_dir is not None:
                if validation is not None:
                    self._keep_best(row, metric)
                self._write_history([*self.history, {"epoch": len(self.history) + 1, "updates": row["updates"],
                                                     "evaluations": epoch.evaluations}])
        if self.checkpoint_every and epoch.updates % self.checkpoint_every == 0:
            epoch.seconds = time.perf_counter() - start
            self._write_checkpoint(loader, epoch)

    def _evaluate(self, validation: Iterable | None, metric: str | Metric, epoch: Epoch) -> dict[str, float]:
        """Note in `epoch` how training does since the last time, and how the model does on `validation`; print a sample."""
        row: dict[str, float] = {"updates": self._updates(epoch), "train_loss": epoch.recent_loss, "lr": epoch.lr}
        if validation is not None:
            passes = epoch_of(validation)
            try:
                with random.replaced(0):        # with the epoch put back: the same batches every time
                    found = self.evaluate(validation, metric if callable(metric) else None)
            finally:
                if passes is not None:
                    validation.epoch = passes
            row |= {f"validation_{key}": value for key, value in found.items() if key != "count"}
        epoch.evaluations.append(row)
        epoch.evaluated_loss, epoch.evaluated_count = epoch.loss, epoch.count
        if self.progress and (validation is not None or self.evaluate_every):
            tqdm.write(f"  update {row['updates']}: " + ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in row.items()
                                                                  if k.endswith(("loss", "accuracy", "metric"))),
                       file=sys.stderr)
        if self.sample is not None:
            with mode(self.model, training=False), no_grad(), random.replaced(0):
                text = self.sample()
            tqdm.write(str(text), file=sys.stderr)
        return row

    def _updates(self, epoch: Epoch) -> int:
        """Updates since the first epoch began."""
        return (self.history[-1]["updates"] if self.history else 0) + epoch.updates

    def _add_gradients(self, x: Tensor, y: Tensor, where: str, undo: Callable[[], None]) -> float:
        """Add the gradients of a batch to those there are; its loss."""
        try:
            loss = loss_of(self.loss, self.model(x), y)
            value = loss.item()
            if not math.isfinite(value):
                undo()
                culprit = first_non_finite(self.model, lambda: loss_of(self.loss, self.model(x), y), x, y)
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

    # -- using the model ----------------------------------------------------------------------------------------------
    def evaluate(self, loader: Iterable, metric: Metric | None = None) -> dict[str, float]:
        """{"loss", "accuracy", "count"} over `loader`, and with `metric` "metric"; see evaluation.evaluate."""
        return evaluate(self.model, loader, self.loss, metric)

    def predict(self, loader: Iterable) -> np.ndarray:
        """The outputs for all batches (inputs, targets) or inputs, one after the other; see evaluation.predict."""
        return predict(self.model, loader)

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

    def _write_history(self, history: list[dict[str, Any]]) -> None:
        write_whole(self.checkpoint_dir / "history.json", json.dumps(history, indent=1).encode())

    def _write_checkpoint(self, loader: Iterable, epoch: Epoch | None) -> None:
        # after best.safetensors: a run that stops between the two comes by that evaluation again and writes the same
        write_checkpoint(self.checkpoint_dir / CHECKPOINT, self.model, self.optimizer, self.schedule,
                         Progress(self.history, self._best, random.get_state(), epoch_of(loader), epoch))

    def _resume(self, loader: Iterable) -> Epoch | None:
        """Continue from the checkpoint, if there is one; the epoch it was in the middle of."""
        if self.checkpoint_dir is None:
            raise FileError("fit: to resume, expected a Trainer with a checkpoint_dir, got none")
        path = self.checkpoint_dir / CHECKPOINT
        if not path.exists():
            return None
        progress = read_checkpoint(path, self.model, self.optimizer, self.schedule)
        self.history[:], self._best = progress.history, progress.best
        if epoch_of(loader) is not None and progress.loader_epoch is not None:
            loader.epoch = progress.loader_epoch
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
