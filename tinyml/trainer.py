"""Trainer: the loop over epochs, with progress, validation, checkpoints, and errors that name non-finite values."""

from __future__ import annotations

import math
import operator
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from tqdm import tqdm

from . import checks, random
from .batches import read_batch
from .errors import DtypeError, FileError, ShapeError
from .evaluation import Metric, evaluate, predict
from .io.checkpoints import Epoch, Progress, batches_left, epoch_of, read_checkpoint, set_epoch, write_checkpoint
from .io.run_folder import RunFolder
from .metrics import Loss, ignore_index
from .nests import count_samples
from .nn import functional as F
from .nn.mode import mode
from .nn.module import Module, Parameter
from .optim import Optimizer, Schedule
from .optim.held import check_held
from .tables import History
from .tape import no_grad
from .tensors import Tensor
from .updates import Update


class Trainer:
    """Trains a model on batches (inputs, targets): it minimises loss(model(inputs), targets).

    Inputs are an array; a tuple or list of arrays for model(x1, x2); or a dict for model(ids=x1, mask=x2). Targets and the
    outputs of the model may be nested in the same way, and are passed to the loss as they are.

    Args:
        model: the model, which is changed in place.
        optimizer: the optimizer of the model's parameters. A parameter that requires a gradient and is not in it gives a
            warning.
        loss: loss(outputs, targets) gives the mean over the targets; None for the model's default_loss, or cross_entropy.
            Integer targets equal to its ignore_index (-100 if it has none) do not count, and a batch in which none counts
            is skipped. Nested targets are counted by samples.
        schedule: a schedule of this optimizer, which takes a step after every update; None for none.
        clip_norm: the largest norm of the gradient; None for no limit.
        checkpoint_dir: a folder that one Trainer uses at a time; it is made if it does not exist. Every epoch writes
            checkpoint.safetensors, from which `fit(resume=True)` continues, history.json and, if it is the best so far,
            best.safetensors, a state dict.
        progress: whether to show bars on stderr, with the loss since the last evaluation, and with the speed of training in
            targets (B, T) or samples per second.
        accumulate: the number of batches per update. Its gradient is that of the mean over all their targets that count.
            The batches that are left at the end of an epoch make an update too.
        checkpoint_every: the number of updates within an epoch after which the checkpoint is written too. Evaluations
            within an epoch write the other two files.
        evaluate_every: the number of updates within an epoch after which to evaluate, as at its end.
        sample: a function that returns a text, which is printed on stderr at each evaluation. It is called in evaluation
            mode and without gradients.

    Raises:
        DtypeError: an argument is of the wrong type.
        ShapeError: arguments do not belong together, such as an optimizer made before a layer was replaced.
        FileError: checkpoint_dir cannot be made.

    Attributes:
        history: a list of one dict per epoch, see `fit`; it grows over calls of `fit`.

    Example:
        >>> import numpy as np
        >>> from tinyml import models, optim
        >>> model = models.MLP(2, 8, 2)
        >>> x = np.random.default_rng(0).standard_normal((64, 2), np.float32)
        >>> trainer = Trainer(model, optim.SGD(model.parameters(), 0.1), progress=False)
        >>> history = trainer.fit([(x, (x[:, 0] > 0).astype(int))], epochs=5)
        >>> len(history), history[-1]["updates"], history[-1]["train_loss"] < history[0]["train_loss"]
        (5, 5, True)
    """

    def __init__(self, model: Module, optimizer: Optimizer, loss: Loss | None = None,
                 schedule: Schedule | None = None, clip_norm: float | None = None,
                 checkpoint_dir: str | os.PathLike[str] | None = None, progress: bool = True, accumulate: int = 1,
                 checkpoint_every: int | None = None, evaluate_every: int | None = None,
                 sample: Callable[[], str] | None = None):
        for value, kind in ((model, Module), (optimizer, Optimizer), (schedule, Schedule)):
            if not isinstance(value, kind) and not (value is None and kind is Schedule):
                raise DtypeError(f"Trainer: expected a tinyml {kind.__name__}, got {type(value)}")
        loss = (model.default_loss or F.cross_entropy) if loss is None else loss
        if not callable(loss) or isinstance(loss, type):
            got = f"the class {loss.__name__}; make one, {loss.__name__}()" if isinstance(loss, type) else repr(loss)[:80]
            raise DtypeError("Trainer: expected loss to be a function of (outputs, targets) that returns a Tensor of one "
                             f"element, such as nn.functional.mse_loss or nn.MSELoss(); got {got}")
        check_held("Trainer", model, optimizer)
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
        self._folder = None if checkpoint_dir is None else RunFolder(checkpoint_dir)
        self.checkpoint_dir = None if self._folder is None else self._folder.path
        self.history: list[dict[str, Any]] = History()
        self._best: tuple[str, float] | None = None     # the figure that the best checkpoint was chosen by, and its value

    # -- training -----------------------------------------------------------------------------------------------------
    def fit(self, loader: Iterable[Any], epochs: int, validation: Iterable[Any] | None = None,
            metric: str | Metric = "accuracy", resume: bool = False, overwrite: bool = False) -> list[dict[str, Any]]:
        """Train for `epochs` passes over `loader`.

        Args:
            loader: batches (inputs, targets), which can be iterated over once per epoch.
            epochs: the number of passes.
            validation: batches for every evaluation. They are the same each time, even if they are drawn at random, because
                tinyml.random then begins from the same seed and the loader's `epoch` stays. Training does not depend on
                them.
            metric: what chooses the best evaluation: "accuracy" (the loss if there is none); "loss" of the validation (of
                the training if there is none); or a function metric(outputs, targets) of a validation batch's ndarrays,
                whose mean is taken and of which more is better.
            resume: continue from the checkpoint in checkpoint_dir, or begin if there is none, so that the same program
                starts a run and continues it. `epochs` includes those of the checkpoint. The results are those of a run
                that was never interrupted, bit for bit, if the program is the same. A loader other than tinyml's must give
                the same batches in the same epoch again, and draw only from tinyml.random.
            overwrite: begin anew although checkpoint_dir has the files of another run, which are lost. Without `overwrite`
                and `resume`, such files are an error.

        Returns:
            `history`. Its dicts have epoch, updates (since the first epoch began), train_loss, lr, seconds and, with
            `validation`, validation_loss and (class targets) validation_accuracy. With evaluate_every they also have
            evaluations, a list of dicts with the same keys but epoch and seconds, in which train_loss is the mean since the
            evaluation before.

        Raises:
            NonFiniteError: a loss, or with clip_norm a gradient, is not finite; the message names the first value that is
                not. Weights are as after the last update, buffers as before that batch.
            ShapeError: epochs is below 1, no target counts in an epoch, a batch is not a pair, or the metric is unknown.
            FileError: checkpoint_dir is in use by another Trainer, has the files of another run, or cannot be written to;
                or the checkpoint is damaged, or of another model, optimizer, schedule or loader.
        """
        if not isinstance(epochs, (int, np.integer)) or epochs < 1:
            raise ShapeError(f"fit: expected epochs to be a whole number of at least 1, got {epochs!r}")
        if metric not in ("accuracy", "loss") and not (callable(metric) and validation is not None):
            raise ShapeError("fit: expected metric 'accuracy', 'loss' or, with a validation loader, a function; "
                             f"got {metric!r} and {'no' if validation is None else 'a'} validation loader")
        with self._use_folder(resume, overwrite), mode(self.model, training=True):
            done = self._resume(self._folder, loader) if resume and self._folder is not None else None
            for _ in range(len(self.history) if resume else 0, epochs):
                epoch, done = done or Epoch(epoch_of(loader), random.get_state()), None
                start = time.perf_counter() - epoch.seconds
                self._train_epoch(loader, validation, metric, epoch, start)
                if not epoch.evaluations or epoch.evaluations[-1]["updates"] != self._updates(epoch):
                    self._evaluate(validation, metric, epoch)
                row: dict[str, Any] = {"epoch": len(self.history) + 1, **epoch.evaluations[-1],
                                       "train_loss": epoch.loss / max(epoch.count, 1),
                                       "seconds": time.perf_counter() - start}
                if self.evaluate_every:
                    row["evaluations"] = epoch.evaluations
                self.history.append(row)
                if self._folder is not None:
                    self._keep_best(self._folder, row, metric)
                    self._folder.write_history(self.history)
                    self._write_checkpoint(self._folder, loader, None)
        return self.history

    def _train_epoch(self, loader: Iterable[Any], validation: Iterable[Any] | None, metric: str | Metric, epoch: Epoch,
                     start: float) -> None:
        """Train the rest of an epoch, and keep `epoch` up to date."""
        number, items, busy, update = len(self.history) + 1, 0, 0.0, None
        batches = batches_left(loader, epoch)
        buffers = [t for _, t in self.model.named_tensors() if not isinstance(t, Parameter)]
        with tqdm(batches, desc=f"epoch {number}", disable=not self.progress, dynamic_ncols=True, initial=epoch.batches,
                  total=operator.length_hint(loader) or None) as bar:
            began = time.perf_counter()
            for batch in bar:
                x, y = read_batch("fit", batch, paired=True)
                if update is None:
                    update = Update(self.model, self.optimizer, self.loss, self.schedule, self.clip_norm, buffers)
                    epoch.lr = self.optimizer.lr
                loss, n = update.add(x, y, f"epoch {number}, step {epoch.batches + 1}")
                epoch.loss, epoch.count, epoch.batches = epoch.loss + loss * n, epoch.count + n, epoch.batches + 1
                updated = False
                if update.batches == self.accumulate:
                    updated, update = update.step(), None
                    epoch.updates += updated
                unit, new = _size(y)
                items, busy = items + new, busy + time.perf_counter() - began
                bar.set_postfix({"loss": f"{epoch.recent_loss:.4f}", "lr": f"{epoch.lr:.2e}",
                                 f"{unit}/s": f"{items / max(busy, 1e-9):,.0f}"}, refresh=False)
                if updated:
                    self._after_update(loader, validation, metric, epoch, start)
                began = time.perf_counter()     # evaluations and checkpoints do not count as training
            if update is not None:
                epoch.updates += update.step()
        if not epoch.batches:
            raise ShapeError(f"fit: epoch {number}: no batch came from the {type(loader).__name__}; expected a "
                             "DataLoader or a list, which can be iterated over once per epoch")
        if not epoch.count:
            raise ShapeError(f"fit: epoch {number}: expected a target that counts, got {epoch.batches} batches from the "
                             f"{type(loader).__name__} whose targets are all {ignore_index(self.loss)}, which is ignored")

    def _after_update(self, loader: Iterable[Any], validation: Iterable[Any] | None, metric: str | Metric, epoch: Epoch,
                      start: float) -> None:
        """Within an epoch, evaluate and write the checkpoint if this update is one after which to do so."""
        if self.evaluate_every and epoch.updates % self.evaluate_every == 0:
            row = self._evaluate(validation, metric, epoch)
            if self._folder is not None:
                if validation is not None:
                    self._keep_best(self._folder, row, metric)
                self._folder.write_history([*self.history, {"epoch": len(self.history) + 1, "updates": row["updates"],
                                                            "evaluations": epoch.evaluations}])
        if self._folder is not None and self.checkpoint_every and epoch.updates % self.checkpoint_every == 0:
            epoch.seconds = time.perf_counter() - start
            self._write_checkpoint(self._folder, loader, epoch)

    def _evaluate(self, validation: Iterable[Any] | None, metric: str | Metric, epoch: Epoch) -> dict[str, float]:
        """Note in `epoch` the training loss since the last evaluation and the figures on `validation`; print a sample."""
        row: dict[str, float] = {"updates": self._updates(epoch), "train_loss": epoch.recent_loss, "lr": epoch.lr}
        if validation is not None:
            passes = epoch_of(validation)
            try:
                with random.replaced(0):        # with the epoch put back: the same batches every time
                    found = self.evaluate(validation, metric if callable(metric) else None)
            finally:
                if passes is not None:
                    set_epoch(validation, passes)
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
        """The number of updates since the first epoch began."""
        return (self.history[-1]["updates"] if self.history else 0) + epoch.updates

    # -- using the model ----------------------------------------------------------------------------------------------
    def evaluate(self, loader: Iterable[Any], metric: Metric | None = None) -> dict[str, float]:
        """The mean loss, the accuracy and the number of targets over batches (inputs, targets).

        Args:
            loader: batches (inputs, targets).
            metric: metric(outputs, targets) gives a number per batch, from ndarrays.

        Returns:
            {"loss", "count"}, with class targets "accuracy" (0 to 1), and with `metric` "metric", its mean.

        Raises:
            ShapeError: no target counts, or a batch is not a pair.
        """
        return evaluate(self.model, loader, self.loss, metric)

    def predict(self, loader: Iterable[Any]) -> Any:
        """The outputs of the model for all batches, in evaluation mode and without gradients.

        Args:
            loader: batches (inputs, targets), or of inputs alone.

        Returns:
            An ndarray (N, ...) of N samples; for a model with several outputs a tuple or a dict of them.

        Raises:
            ShapeError: there is no batch, `loader` is one array, or the outputs of batches differ in structure.
            DtypeError: an output is not a Tensor.
        """
        return predict(self.model, loader)

    # -- checkpoints --------------------------------------------------------------------------------------------------
    def load_best(self) -> None:
        """Load the weights of best.safetensors into the model.

        Raises:
            FileError: the file is missing or damaged, or there is no checkpoint_dir.
        """
        if self._folder is None:
            raise FileError("load_best: expected a Trainer with a checkpoint_dir, got none")
        self.model.load_state_dict(self._folder.read_best())

    def _use_folder(self, resume: bool, overwrite: bool) -> AbstractContextManager[None]:
        """checkpoint_dir for this Trainer alone."""
        if resume and overwrite:
            raise ShapeError("fit: expected resume or overwrite, got both")
        if self._folder is None:
            if resume or overwrite:
                what = "resume" if resume else "overwrite"
                raise FileError(f"fit: to {what}, expected a Trainer with a checkpoint_dir, got none")
            return nullcontext()
        return self._folder.used(resume, overwrite)

    def _keep_best(self, folder: RunFolder, row: dict[str, float], metric: str | Metric) -> None:
        kind, score = _score(row, metric)
        if self._best is None or self._best[0] != kind or score > self._best[1]:
            folder.write_best(self.model)
            self._best = kind, score

    def _write_checkpoint(self, folder: RunFolder, loader: Iterable[Any], epoch: Epoch | None) -> None:
        # after best.safetensors: a run that stops between the two repeats that evaluation and writes the same file
        write_checkpoint(folder.checkpoint, self.model, self.optimizer, self.schedule,
                         Progress(self.history, self._best, random.get_state(), epoch_of(loader), epoch))

    def _resume(self, folder: RunFolder, loader: Iterable[Any]) -> Epoch | None:
        """Continue from the checkpoint, if there is one; return the epoch that it was written in, unless at its end."""
        if not folder.checkpoint.exists():
            return None
        progress = read_checkpoint(folder.checkpoint, self.model, self.optimizer, self.schedule)
        self.history[:], self._best = progress.history, progress.best
        if epoch_of(loader) is not None and progress.loader_epoch is not None:
            set_epoch(loader, progress.loader_epoch)
        return progress.epoch


def _size(targets: Any) -> tuple[str, int]:
    """The unit of the speed of training, and the number of such units in a batch."""
    tokens = isinstance(targets, Tensor) and targets.dtype.kind in "iu" and targets.ndim == 2
    return ("tokens", targets.numel()) if tokens else ("samples", count_samples(targets))


def _score(row: dict[str, float], metric: str | Metric) -> tuple[str, float]:
    """The figure by which the best evaluation is chosen, and its value; larger is better, and a NaN is the worst."""
    wanted = "validation_metric" if callable(metric) else f"validation_{metric}"
    kind = next(key for key in (wanted, "validation_loss", "train_loss") if key in row)
    value = -row[kind] if kind.endswith("_loss") else row[kind]
    return kind, -math.inf if math.isnan(value) else value
